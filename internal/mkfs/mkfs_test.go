package mkfs

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/testutil"
)

func TestExt3(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "mke2fs")
	path := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Ext3(ctx, path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const superblock, magicOff, compatOff, hasJournal = 1024, 56, 92, 4
	if m := binary.LittleEndian.Uint16(b[superblock+magicOff:]); m != 0xef53 {
		t.Fatalf("magic 0x%x", m)
	}
	if binary.LittleEndian.Uint32(b[superblock+compatOff:])&hasJournal == 0 {
		t.Fatal("no journal: that is ext2")
	}
}

func TestExt3_missingFile(t *testing.T) {
	t.Parallel()
	testutil.NeedTool(t, "mke2fs")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Ext3(ctx, filepath.Join(t.TempDir(), "none", "fs")); err == nil {
		t.Fatal("a file system in a directory that does not exist")
	}
}
