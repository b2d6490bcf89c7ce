package dm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// resolvePV finds the number and the size of the block device at path.
func resolvePV(path string) (pvDevice, error) {
	n, err := blockNumber(path)
	if err != nil {
		return pvDevice{}, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%v/size", n))
	if err != nil {
		return pvDevice{}, fmt.Errorf("size of %s: %w", path, err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || sectors < 0 {
		return pvDevice{}, fmt.Errorf("size of %s: %q is no number of sectors", path, b)
	}
	return pvDevice{path: path, number: n, sectors: sectors}, nil
}
