//go:build !jepsen

package bootid

// path is the kernel's file: the normal program has no seam.
func path() string { return file }
