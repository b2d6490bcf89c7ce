//go:build jepsen

package bootid

import "os"

// path is the file that a harness names, whose hosts share a machine and boot one by one, or the kernel's.
func path() string {
	if p := os.Getenv("HOLDFAST_BOOT_SEAM"); p != "" {
		return p
	}
	return file
}
