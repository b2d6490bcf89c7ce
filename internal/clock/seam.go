//go:build jepsen

package clock

import (
	"os"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/internal/clockseam"
)

// seam is the file that the environment names, or nil. The keeper inherits the environment of its agent.
var seam = sync.OnceValue(func() *clockseam.Seam {
	path := os.Getenv(clockseam.Env)
	if path == "" {
		return nil
	}
	s, err := clockseam.Open(path)
	if err != nil {
		// Going on with a right clock would be a fault that was not injected, and a run that proves nothing.
		panic(clockseam.Env + ": " + err.Error())
	}
	return s
})

// skewed is the time that the host is to take for the right one.
func skewed(boot time.Duration) time.Duration {
	if s := seam(); s != nil {
		return s.Skew(boot)
	}
	return boot
}
