// Package bootid tells one boot of this machine from another.
package bootid

import (
	"fmt"
	"os"
	"strings"
)

// file has an id that the kernel makes at each boot.
const file = "/proc/sys/kernel/random/boot_id"

// Get is the id of this boot.
func Get() (string, error) {
	b, err := os.ReadFile(path())
	if err != nil {
		return "", fmt.Errorf("reading which boot of the machine this is: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
