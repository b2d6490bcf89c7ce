package spm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// told collects what a role reports.
func told(r *Role) func() []fsm.Event {
	var list []fsm.Event
	r.cfg.Report = func(_ context.Context, e fsm.Event) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		list = append(list, e)
		return nil
	}
	return func() []fsm.Event { r.mu.Lock(); defer r.mu.Unlock(); return list }
}

// Asked through the storage, the role stops in order and fast, although a request hangs and the mirror cannot be reached.
func TestRole_Yield(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, m *fakeMirror, r *Role, _ *hostLease) {
		events := told(r)
		synctest.Wait()
		m.setDown(true)
		l.mu.Lock()
		l.hang = make(chan struct{})
		l.mu.Unlock()
		errs := make(chan error)
		go func() {
			_, err := r.CreateVolume(t.Context(), create("a"))
			errs <- err
		}()
		synctest.Wait()
		begun := time.Now()
		r.Yield(5, "h2") // serving is version 4
		for r.Status().State != StateNone {
			time.Sleep(5 * time.Millisecond)
		}
		if took := time.Since(begun); took > 1300*time.Millisecond || l.holder != 0 {
			t.Errorf("took %s, held by %d", took, l.holder)
		}
		if err := <-errs; err == nil {
			t.Error("the request that hung succeeded")
		}
		synctest.Wait()
		if e := events(); len(e) != 1 || e[0].Kind != "spm.handed_over" || e[0].Epoch != 4 || e[0].Message == "" {
			t.Errorf("told %+v", e)
		}
	})
}

// A request for another version concerns nobody here.
func TestRole_Yield_ofAnotherVersion(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		for _, v := range []uint64{0, 3, 4, 6} {
			r.Yield(v, "")
		}
		time.Sleep(5 * time.Second)
		if st := r.Status(); st.State != StateServing {
			t.Errorf("%+v", st)
		}
	})
}

// While a write may still land the lease stays; it is released as soon as the write has come back.
func TestRole_Yield_pending(t *testing.T) {
	bubble(t, func(t *testing.T, l *lun, _ *fakeMirror, r *Role, _ *hostLease) {
		events := told(r)
		l.mu.Lock()
		l.pending = 1
		l.mu.Unlock()
		r.Yield(5, "h2")
		time.Sleep(time.Minute)
		l.mu.Lock()
		holder := l.holder
		l.pending = 0
		l.mu.Unlock()
		if holder != 1 {
			t.Error("released while a write may land")
		}
		time.Sleep(time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holder != 0 {
			t.Error("not released afterwards")
		}
		if e := events(); len(e) != 1 || e[0].Kind != "spm.handed_over" {
			t.Errorf("told %+v", e)
		}
	})
}

// A role that is lost says so.
func TestRole_lostIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, _ *lun, _ *fakeMirror, r *Role, h *hostLease) {
		events := told(r)
		h.lose()
		time.Sleep(3 * time.Second)
		if e := events(); len(e) != 1 || e[0].Kind != "spm.lost" || e[0].Epoch != 4 {
			t.Errorf("told %+v", e)
		}
	})
}
