//go:build jepsen

package plant

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// planted are the mistakes of this process.
var planted atomic.Pointer[[]string]

func init() {
	names := split(os.Getenv(Env))
	if err := check(names); err != nil {
		// A run without the mistake that it is to find would look like a suite that is blind.
		panic(err)
	}
	planted.Store(&names)
}

// On says whether a mistake is planted in this process.
func On(name string) bool { return slices.Contains(*planted.Load(), name) }

// Set plants exactly these mistakes from now on, for tests, which must not run beside others then. The function takes them back.
func Set(names ...string) (undo func()) {
	if err := check(names); err != nil {
		panic(err)
	}
	old := planted.Swap(&names)
	return func() { planted.Store(old) }
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func check(names []string) error {
	for _, n := range names {
		if !slices.Contains(Names(), n) {
			return fmt.Errorf("%s: there is no mistake %q to plant; known are %s", Env, n, strings.Join(Names(), ", "))
		}
	}
	return nil
}
