package main

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
)

var sizePattern = regexp.MustCompile(`^([0-9]{1,20})(?:\.([0-9]{1,9}))?\s*([A-Za-z]*)$`)

// sizeUnits are powers of two; K, M, G and T mean the same as KiB, MiB, GiB and TiB, as in lvm and qemu-img.
var sizeUnits = map[string]uint{
	"": 0, "b": 0, "k": 10, "kib": 10, "m": 20, "mib": 20, "g": 30, "gib": 30, "t": 40, "tib": 40, "p": 50, "pib": 50,
}

// parseSize reads a size such as 10GiB, 1.5T or 1048576 into bytes.
func parseSize(s string) (int64, error) {
	m := sizePattern.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, fmt.Errorf("size %q is not understood: write 10GiB, 512MiB or a number of bytes", s)
	}
	shift, ok := sizeUnits[strings.ToLower(m[3])]
	if !ok {
		return 0, fmt.Errorf("size %q has an unknown unit: use KiB, MiB, GiB or TiB (powers of 1024)", s)
	}
	r, ok := new(big.Rat).SetString(m[1] + "." + m[2] + "0")
	if !ok {
		return 0, fmt.Errorf("size %q is not understood", s)
	}
	r.Mul(r, new(big.Rat).SetInt64(1<<shift))
	if !r.IsInt() {
		return 0, fmt.Errorf("size %q is not a whole number of bytes", s)
	}
	if !r.Num().IsInt64() || r.Num().Int64() > math.MaxInt64/2 {
		return 0, fmt.Errorf("size %q is absurdly large", s)
	}
	return r.Num().Int64(), nil
}

// formatSize writes bytes with the largest unit that keeps the number exact to two digits.
func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for i < len(units)-1 && math.Abs(f) >= 1024 {
		f, i = f/1024, i+1
	}
	s := strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", f), "0"), ".")
	return s + units[i]
}
