// Package soft runs the optional command that tries to bring a host back without its power switch: a restart of the agent by
// ssh, a management system's own tool. It is a try. Neither its success nor its failure proves anything about the host.
package soft

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/program"
)

// maxTimeout bounds a try: fencing waits for it.
const maxTimeout = 10 * time.Minute

// Command is the configured command. It gets what it is about in its environment: HOLDFAST_HOST, HOLDFAST_HOST_ADDRESS,
// HOLDFAST_HOST_ID.
type Command struct {
	// Argv is the program, by its absolute path, and its arguments. Everybody on the host can read them.
	Argv []string
	// Timeout ends a try; its process group is killed. Default 60 s.
	Timeout time.Duration
}

// Target is the host that a try is for.
type Target struct {
	Host    string
	Address string
	ID      int
}

// Outcome is what a try left behind: evidence for the record, no proof.
type Outcome struct {
	Code   int           `json:"code"`
	Output string        `json:"output,omitempty"`
	Took   time.Duration `json:"took_ns"`
}

// Default is a command without a program, with the default timeout.
func Default() Command { return Command{Timeout: time.Minute} }

// Validate refuses a command that cannot run.
func (c Command) Validate() error {
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		return fmt.Errorf("the soft restart needs the absolute path of a program: %w", fencing.ErrConfig)
	}
	if c.Timeout < time.Second || c.Timeout > maxTimeout {
		return fmt.Errorf("the soft restart's timeout is %s, not between 1s and %s: %w", c.Timeout, maxTimeout, fencing.ErrConfig)
	}
	for _, a := range c.Argv {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("an argument of the soft restart holds a zero byte: %w", fencing.ErrConfig)
		}
	}
	return nil
}

// Run tries it. An exit status other than 0 is ErrRefused, the end of its time ErrTimeout.
func (c Command) Run(ctx context.Context, target Target) (Outcome, error) {
	if err := c.Validate(); err != nil {
		return Outcome{}, err
	}
	inner, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	out, err := program.Run(inner, program.Spec{Path: c.Argv[0], Args: c.Argv[1:], Env: []string{
		"HOLDFAST_HOST=" + target.Host,
		"HOLDFAST_HOST_ADDRESS=" + target.Address,
		fmt.Sprintf("HOLDFAST_HOST_ID=%d", target.ID),
	}})
	result := Outcome{Code: out.Code, Took: out.Took, Output: fencing.Clean(out.Stdout+" "+out.Stderr, fencing.MaxNote)}
	switch {
	case errors.Is(err, program.ErrNotFound):
		err = fmt.Errorf("soft restart of %s: %w: %w", target.Host, fencing.ErrNoProgram, err)
	case err != nil && ctx.Err() == nil && inner.Err() != nil:
		err = fmt.Errorf("soft restart of %s after %s: %w", target.Host, c.Timeout, fencing.ErrTimeout)
	case err != nil:
		err = fmt.Errorf("soft restart of %s: %w", target.Host, err)
	case out.Code != 0:
		err = fmt.Errorf("soft restart of %s: %s ended with status %d: %s: %w", target.Host, c.Argv[0], out.Code, result.Output, fencing.ErrRefused)
	}
	return result, err
}
