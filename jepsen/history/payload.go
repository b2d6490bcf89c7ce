package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// FinalFile is what there was after everything had healed.
const FinalFile = "final.json"

// VolumeInput is what a volume operation asked for. Which volume is in Op.Key: its name.
type VolumeInput struct {
	Idempotency string `json:"idempotency,omitempty"` // of a create; a repetition has the same one
	ID          string `json:"id,omitempty"`          // of a delete by id; empty: by name
	Format      string `json:"format,omitempty"`
	Size        int64  `json:"size,omitempty"`
	Description string `json:"description,omitempty"`
	Consistent  bool   `json:"consistent,omitempty"` // a read that asked the leader
	Initial     int64  `json:"initial,omitempty"`    // of a create: the bytes to be allocated at once; 0: the default
	Parent      string `json:"parent,omitempty"`     // of a create: it was a snapshot, and this volume was the leaf
	Storage     bool   `json:"storage,omitempty"`    // of an extension: through the storage alone
}

// VolumeAnswer is what was answered about one volume.
type VolumeAnswer struct {
	VolumeRef
	Mirrored bool          `json:"mirrored,omitempty"` // a change: every later consistent read shows it
	Age      time.Duration `json:"age,omitempty"`      // a read: since the host heard from the leader
	// Allocated is what it has on the domain, as the answer to an extension says.
	Allocated int64 `json:"allocated,omitempty"`
}

// VolumeRef is a volume in a list.
type VolumeRef struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// VolumeListed is the answer to a list.
type VolumeListed struct {
	Volumes []VolumeRef   `json:"volumes"`
	Age     time.Duration `json:"age,omitempty"`
}

// LeaseInput is for whom a lease was asked for. Which lease is in Op.Key, on which host in Op.Host.
type LeaseInput struct {
	VM string `json:"vm"`
}

// LeaseAnswer is what was answered about a lease.
type LeaseAnswer struct {
	Host    string `json:"host,omitempty"` // who has it; empty: nobody
	Version uint64 `json:"version"`        // the fencing token
	Status  string `json:"status,omitempty"`
}

// MoveInput is where a role was to go; empty: anywhere.
type MoveInput struct {
	To string `json:"to,omitempty"`
}

// MoveAnswer is where it went. The epoch is in the Op.
type MoveAnswer struct {
	Host string `json:"host"`
}

// Final is what there was after everything had healed: each host's list, and what lies on the LUN.
type Final struct {
	Mirrors map[string][]VolumeRef `json:"mirrors"`
	LUN     []VolumeRef            `json:"lun"` // by reading the LUN itself
}

// SaveFinal writes it.
func SaveFinal(folder string, f Final) error {
	b, err := json.Marshal(f)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, FinalFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing a run's last lists: %w", err)
	}
	return nil
}

// LoadFinal reads it; nil when the run did not come so far.
func LoadFinal(folder string) (*Final, error) {
	b, err := os.ReadFile(filepath.Join(folder, FinalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	f := &Final{}
	if err == nil {
		err = json.Unmarshal(b, f)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a run's last lists: %w", err)
	}
	return f, nil
}
