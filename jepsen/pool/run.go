package pool

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// toolTime bounds a program of the system.
const toolTime = 20 * time.Second

// tool runs a program of the system to its end and returns what it said. It goes on when the caller's own time is over, because
// half a change would have to be found out and undone.
func tool(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}

// ip runs the program ip.
func ip(args ...string) error {
	_, err := tool("ip", args...)
	return err
}
