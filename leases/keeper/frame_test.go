package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
)

func TestFrame_roundTrip(t *testing.T) {
	t.Parallel()
	ls, res := specs("/lun", 3)
	want := request{ID: 7, Method: methodJoin, Timeout: 5, Lockspace: &ls, Resource: &res, Name: "n", HostID: 2, Generation: 9}
	var buf bytes.Buffer
	if err := writeFrame(&buf, &want); err != nil {
		t.Fatal(err)
	}
	var got request
	if err := readFrame(&buf, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWireError_keepsMeaning(t *testing.T) {
	t.Parallel()
	held := &leases.HeldError{Resource: "r", HostID: 4, Generation: 2}
	err := toWire(fmt.Errorf("acquiring: %w: %w", held, blockdev.ErrOutcomeUnknown)).fromWire()
	var h *leases.HeldError
	if !errors.As(err, &h) || h.HostID != 4 || !errors.Is(err, leases.ErrHeld) || !errors.Is(err, blockdev.ErrOutcomeUnknown) || errors.Is(err, leases.ErrLost) {
		t.Errorf("%v", err)
	}
}

// What is an error of the device there is one here.
func TestWireError_device(t *testing.T) {
	t.Parallel()
	for _, want := range []error{unix.EIO, blockdev.ErrPending, blockdev.ErrGone, blockdev.ErrTimeout, blockdev.ErrReadOnly} {
		if err := toWire(fmt.Errorf("reading: %w", want)).fromWire(); !errors.Is(err, want) {
			t.Errorf("%v has lost its meaning", err)
		}
	}
}

// FuzzFrame: no panic, and no more memory than what arrives.
func FuzzFrame(f *testing.F) {
	for _, m := range []string{methodHello, methodAcquire, methodJoin} {
		var buf bytes.Buffer
		ls, res := specs("/lun", 1)
		if err := writeFrame(&buf, &request{ID: 1, Method: m, Lockspace: &ls, Resource: &res}); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	for _, r := range []response{
		{ID: 1, Generation: 2, Version: 3, LockspaceSlot: 4, LockspaceJoin: 5, ResourceSlot: 6},
		{Lost: &Loss{Lockspace: "space", Reason: "why", KillIn: 7}},
		{Request: &RequestSeen{}}, {Event: &eventSeen{}}, {Value: []byte("value")},
		{ID: 2, Error: toWire(&leases.HeldError{Resource: "r", HostID: 4})},
		{ID: 3, Hosts: []leases.HostStatus{{HostID: 1, State: leases.HostLive}}, Info: &leases.ResourceInfo{}, Record: &leases.HostRecord{}},
	} {
		var buf bytes.Buffer
		if err := writeFrame(&buf, &r); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{255, 255, 15, 0, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for range 4 {
			var req request
			if readFrame(r, &req) != nil {
				break
			}
		}
		var resp response
		if readFrame(bytes.NewReader(b), &resp) == nil {
			_ = resp.Error.fromWire()
		}
	})
}

func TestPage_guardSeesTornAndForeign(t *testing.T) {
	t.Parallel()
	f, err := newPageFile()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := mapPage(f, true)
	if err != nil {
		t.Fatal(err)
	}
	r, err := mapPage(f, false)
	if err != nil {
		t.Fatal(err)
	}
	g := &grant{resource: 3, lockspace: 2, version: 9, generation: 4, join: 6, state: stateHeld, name: 5}
	w.holdLockspace(2, 77, 4, 6)
	w.holdResource(3, stateShared, 9, 4, 2, 5)
	if _, err := r.expiryOf(g); err == nil {
		t.Error("a shared lease was taken for an exclusive one")
	}
	w.holdResource(3, stateHeld, 9, 4, 2, 5)
	if e, err := r.expiryOf(g); err != nil || e != 77 {
		t.Fatalf("%v, %v", e, err)
	}
	w.setExpiry(2, 99)
	if e, err := r.expiryOf(g); err != nil || e != 99 {
		t.Errorf("%v, %v", e, err)
	}
	w.holdResource(3, stateHeld, 9, 4, 2, 6)
	if _, err := r.expiryOf(g); err == nil {
		t.Error("another resource in the same slot was taken for ours")
	}
	w.holdResource(3, stateHeld, 9, 4, 2, 5)
	w.slot(resourceBase, 3)[wordSeq]++ // the writer died in the middle
	if _, err := r.expiryOf(g); !errors.Is(err, errTorn) {
		t.Errorf("torn slot: %v", err)
	}
	w.slot(resourceBase, 3)[wordSeq]++
	w.holdResource(3, stateHeld, 10, 4, 2, 5)
	if _, err := r.expiryOf(g); err == nil {
		t.Error("another version's slot was taken for ours")
	}
}
