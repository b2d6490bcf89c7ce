// Package mkfs runs mke2fs, the only place that does.
package mkfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Ext3 makes an ext3 file system in an existing file, without discarding. The file is on a local disk, so that no
// deadline but the caller's counts.
func Ext3(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-j", "-E", "nodiscard", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if cmd.Err != nil {
		findIn(cmd, "/usr/sbin", "/sbin")
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("mke2fs is missing, install e2fsprogs: %w", err)
	}
	if err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// findIn looks for the program where a service's PATH may not.
func findIn(cmd *exec.Cmd, dirs ...string) {
	for _, dir := range dirs {
		p := filepath.Join(dir, "mke2fs")
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			cmd.Path, cmd.Err = p, nil
			return
		}
	}
}
