package nbd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/qcow2"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

const newID = "b3b4c5d6-0000-4000-8000-000000000002"

// storage is what attach.Manager needs of a host, for two qcow2 volumes on one LUN: the second is made by a snapshot.
type storage struct {
	t    *testing.T
	lun  string
	page string // a lease for writing is a file beside it; the guard looks for that
	vols map[string]attach.Volume
}

func (s *storage) lease(volume string) string { return s.page + "." + volume }

func (s *storage) Volume(_ context.Context, _, id string) (attach.Volume, error) {
	v, ok := s.vols[id]
	if !ok {
		return v, domain.ErrNotFound
	}
	return v, nil
}

func (s *storage) Segments(_ context.Context, _, id string) ([]attach.Segment, error) {
	return s.vols[id].Segments, nil
}

func (s *storage) Take(_ context.Context, at attach.Place, _ attach.Process, shared bool) (attach.Held, error) {
	if shared {
		return attach.Held{Version: 1}, nil
	}
	return attach.Held{Version: 1, Guard: fmt.Appendf(nil, "%q", s.lease(at.Name))}, os.WriteFile(s.lease(at.Name), nil, 0o600)
}

// Share takes the right to write away: from here on the export refuses every write.
func (s *storage) Share(_ context.Context, at attach.Place, _ attach.Process) error {
	err := os.Remove(s.lease(at.Name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (s *storage) AwaitFree(context.Context, attach.Place) error { return nil }

func (s *storage) Extend(context.Context, string, string, int64) error { return domain.ErrFull }

func (s *storage) volume(id, parent string, at int64) {
	s.vols[id] = attach.Volume{ID: id, Domain: domID, Name: "web1", Format: domain.FormatQcow2, Type: domain.Leaf, Legality: domain.Legal, Parent: parent,
		SizeBytes: 48 * mib, Grows: true, Segments: []attach.Segment{{Device: s.lun, OffsetBytes: at, LengthBytes: 48 * mib}}, IOTimeout: 10 * time.Second,
		Lease: attach.Place{Lockspace: domID, Name: id}}
	h, err := qcow2.Create(qcow2.CreateOptions{Size: 32 * mib})
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := os.OpenFile(s.lun, os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = f.WriteAt(h, at)
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// Snapshot is the SPM's.
func (s *storage) Snapshot(_ context.Context, _, _, leaf, _ string) (string, error) {
	if _, there := s.vols[newID]; !there {
		s.volume(newID, leaf, 64*mib)
		v := s.vols[leaf]
		v.Type = domain.Internal
		s.vols[leaf] = v
	}
	return newID, nil
}

// content is what lies in a volume.
func (s *storage) content(at int64) string {
	s.t.Helper()
	f, err := os.Open(s.lun)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, at, 48*mib)); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// startDaemon runs QEMU without a machine: it has the chain open as the attachment says, and serves the disk to qemu-io.
func startDaemon(t *testing.T, dir string, a attach.Attachment) (stop func()) {
	t.Helper()
	args := []string{"qemu-storage-daemon", "--chardev", "socket,id=c,path=" + dir + "/qmp,server=on,wait=off", "--monitor", "chardev=c"}
	var disk string
	for _, node := range attach.BlockDev(a.Chain) {
		b, err := json.Marshal(node)
		if err != nil {
			t.Fatal(err)
		}
		args, disk = append(args, "--blockdev", string(b)), node["node-name"].(string)
	}
	args = append(args, "--nbd-server", "addr.type=unix,addr.path="+dir+"/disk", "--export", "type=nbd,id=e,node-name="+disk+",writable=on,name=x")
	cmd := testutil.Command(t, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if t.Failed() {
			t.Log(out.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

// TestSnapshot_realQEMU: real exports, a real QEMU that has the volume open and is written all through.
func TestSnapshot_realQEMU(t *testing.T) {
	testutil.NeedTool(t, "qemu-storage-daemon", "qemu-io")
	b := newBench(t)
	dir := filepath.Dir(b.page)
	s := &storage{t: t, lun: filepath.Join(dir, "lun"), page: b.page, vols: map[string]attach.Volume{}}
	if err := os.Truncate(s.lun, 128*mib); err != nil {
		t.Fatal(err)
	}
	s.volume(volID, "", 0)
	m, err := attach.New(attach.Config{Dir: filepath.Join(dir, "records"), Boot: "b", Mappers: []attach.Mapper{b.Mapper}, Leases: s, Disks: s, Extender: s,
		Snapshots: s, Growth: attach.DefaultGrowth()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var a attach.Attachment
	testutil.Retry(t, 20*time.Second, func() error {
		a, err = m.Attach(testutil.Deadline(t), attach.Request{Domain: domID, Volume: volID, QMP: attach.QMP{Socket: dir + "/qmp"}})
		return err
	})
	defer func() {
		for _, id := range []string{newID, volID} {
			_ = m.Detach(testutil.Deadline(t), attach.Request{Domain: domID, Volume: id, Force: true})
		}
	}()
	stop := startDaemon(t, dir, a)
	disk := "nbd+unix:///x?socket=" + dir + "/disk"
	qemuIO := func(cmd string) { t.Helper(); testutil.Run(t, "qemu-io", "-f", "raw", "-c", cmd, disk) }
	testutil.Retry(t, 20*time.Second, func() error { _, err := os.Stat(dir + "/disk"); return err })
	qemuIO("write -P 7 0 2M")
	testutil.Retry(t, 30*time.Second, func() error {
		if l := m.List(); len(l) != 1 || !l[0].Watched {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
	a, err = m.Snapshot(testutil.Deadline(t), attach.SnapshotRequest{Domain: domID, Volume: volID})
	if err != nil || a.Volume != newID || len(a.Chain) != 2 || a.Chain[0].ReadOnly || !a.Chain[1].ReadOnly {
		t.Fatalf("%+v, %v", a, err)
	}
	before, fresh := s.content(0), s.content(64*mib)
	qemuIO("write -P 8 1M 2M")
	qemuIO("read -P 7 0 1M")
	qemuIO("read -P 8 1M 2M")
	if s.content(0) != before {
		t.Error("the old leaf was written after the snapshot")
	}
	if s.content(64*mib) == fresh {
		t.Error("the new leaf was not written")
	}
	if _, err := os.Stat(s.lease(volID)); err == nil {
		t.Error("the old leaf's lease is exclusive still")
	}
	// The next QEMU finds the same by what the host says of the new leaf.
	stop()
	for _, f := range []string{"qmp", "disk"} {
		_ = os.Remove(filepath.Join(dir, f))
	}
	l := m.List()
	if len(l) != 1 || l[0].Volume != newID {
		t.Fatalf("%+v", l)
	}
	stop = startDaemon(t, dir, l[0])
	testutil.Retry(t, 20*time.Second, func() error { _, err := os.Stat(dir + "/disk"); return err })
	qemuIO("read -P 7 0 1M")
	qemuIO("read -P 8 1M 2M")
	stop()
	if err := m.Detach(testutil.Deadline(t), attach.Request{Domain: domID, Volume: newID}); err != nil || len(m.List()) != 0 {
		t.Errorf("%v, %+v", err, m.List())
	}
}
