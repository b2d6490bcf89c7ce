package fsm

import "fmt"

// SPM priorities of a host: the highest is asked first, and NeverSPM is not asked at all.
const (
	NeverSPM        = -1
	DefaultPriority = 5
	MaxPriority     = 10
)

// CheckPriority says why a number cannot be a host's SPM priority.
func CheckPriority(p int) error {
	if p >= NeverSPM && p <= MaxPriority {
		return nil
	}
	return &RefusedError{Code: CodeInvalid, Message: fmt.Sprintf("SPM priority %d: use %d (never) to %d", p, NeverSPM, MaxPriority)}
}
