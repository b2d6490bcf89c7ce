package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// States of a record.
const (
	StateAttaching = "attaching" // nobody was told where it is: undone after a crash
	StateAttached  = "attached"
	StateDetaching = "detaching" // finished after a crash
	StateBroken    = "broken"    // the lease was somebody else's meanwhile: to be detached
)

// Record is what this host keeps of one volume of an attached chain, on its local disk.
type Record struct {
	Domain   string `json:"domain"`
	Volume   string `json:"volume"`
	Name     string `json:"name,omitempty"`
	Format   string `json:"format"`
	Parent   string `json:"parent,omitempty"`
	ReadOnly bool   `json:"read_only"`
	Grows    bool   `json:"grows"`
	Size     int64  `json:"size,omitempty"` // the most that clients may see
	// Users are the attached volumes that need this one: itself, or those based on it.
	Users   []string `json:"users"`
	State   string   `json:"state"`
	Reason  string   `json:"reason,omitempty"` // of StateBroken
	Mapper  string   `json:"mapper"`
	Process Process  `json:"process"`
	Where   Where    `json:"where"`
	Device  Device   `json:"device,omitzero"` // of a mapping by device-mapper
	Lease   Place    `json:"lease"`
	// Version is that of the lease; the next one must follow on it, or somebody else had the volume in between.
	Version uint64 `json:"version"`
	// HighBytes is the end of the highest write known of.
	HighBytes int64 `json:"high_bytes"`
	// QMP is the monitor of the guest that uses it; of a volume that was attached for writing only.
	QMP QMP `json:"qmp,omitzero"`
	// Snapshot is one that is under way, with this volume as the old leaf.
	Snapshot *Pending `json:"snapshot,omitempty"`
	// MadeBy is the key of the snapshot that it is the new leaf of.
	MadeBy string    `json:"made_by,omitempty"`
	Boot   string    `json:"boot"` // of the machine, see Config.Boot
	Since  time.Time `json:"since"`
}

func (r Record) key() string { return r.Domain + "/" + r.Volume }

// top says that the volume was attached itself, and not only for one that is based on it.
func (r Record) top() bool { return slices.Contains(r.Users, r.Volume) }

// validate refuses what no agent has written.
func (r Record) validate() error {
	for _, id := range append([]string{r.Domain, r.Volume}, r.Users...) {
		if u, err := uuid.Parse(id); err != nil || u.String() != id {
			return fmt.Errorf("%q is no UUID", id)
		}
	}
	if !slices.Contains([]string{StateAttaching, StateAttached, StateDetaching, StateBroken}, r.State) {
		return fmt.Errorf("state %q", r.State)
	}
	if r.Process.PID <= 1 || r.HighBytes < 0 {
		return fmt.Errorf("process %d, highest byte %d", r.Process.PID, r.HighBytes)
	}
	return r.QMP.validate()
}

const (
	recordSuffix = ".json"
	maxRecord    = 1 << 20
)

// ErrRecord says that a record cannot be read. What it names may be mapped: end it by hand, then remove the file.
var ErrRecord = errors.New("record of an attached volume cannot be read")

// decodeRecord reads one record.
func decodeRecord(b []byte) (Record, error) {
	var r Record
	if len(b) > maxRecord {
		return r, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	err := json.Unmarshal(b, &r)
	if err == nil {
		err = r.validate()
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return r, nil
}

// store is the directory of the records, one file each.
type store struct{ dir string }

// load reads all records. One that cannot be read is an error: what it names may be written, so nothing may be forgotten.
func (s store) load() ([]Record, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of attached volumes: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("reading what is attached: %w", err)
	}
	var all []Record
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), recordSuffix) {
			continue // a file that was being written
		}
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading what is attached: %w", err)
		}
		r, err := decodeRecord(b)
		if err == nil && s.path(r) != filepath.Join(s.dir, e.Name()) {
			err = fmt.Errorf("%w: it is of volume %s", ErrRecord, r.Volume)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		all = append(all, r)
	}
	return all, nil
}

func (s store) path(r Record) string {
	return filepath.Join(s.dir, r.Domain+"_"+r.Volume+recordSuffix)
}

// put writes a record; it is there after a crash when put has returned.
func (s store) put(r Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	path := s.path(r)
	fresh := strings.TrimSuffix(path, recordSuffix) + ".new"
	if err := writeSync(fresh, append(b, '\n')); err != nil {
		return fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	if err := errors.Join(os.Rename(fresh, path), s.sync()); err != nil {
		return fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	return nil
}

func writeSync(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// drop removes a record.
func (s store) drop(r Record) error {
	if err := os.Remove(s.path(r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the record of an attached volume: %w", err)
	}
	return s.sync()
}

// sync makes renames and removals durable.
func (s store) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
