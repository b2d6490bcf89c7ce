package raftlog

import "fmt"

// DamagedError says that a file does not hold what was written to it. Nothing in it was changed.
type DamagedError struct {
	Path string
	What string
}

// Error names the file and what is wrong in it.
func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.Path, e.What) }

func damagedf(format string, args ...any) error {
	return &DamagedError{What: fmt.Sprintf(format, args...)}
}
