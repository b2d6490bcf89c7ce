package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/direct"
)

// sanlockOptions is a parsed command line of `sanlock direct`.
type sanlockOptions struct {
	debug      bool
	dumpPath   string
	lockspace  sanlockLockspace
	resource   *sanlockResource
	index      sanlockIndex
	name       string // -e
	hostID     uint64
	generation uint64
	force      int
	numHosts   int
	clear      bool
	ioTimeout  time.Duration
	sector     int
	align      int64
}

// geometry is what -Z and -A ask for, zero when both are left out.
func (o *sanlockOptions) geometry() (leases.Geometry, error) {
	if o.align == 0 && o.sector != 512 && o.sector != 4096 {
		return leases.Geometry{}, nil
	}
	g := leases.Geometry{SectorSize: o.sector, AlignSize: o.align}
	return g, g.Validate()
}

// The options that exist. Those that only the daemon or a client uses are accepted and ignored, as sanlock does.
const (
	sanlockWithValue = "abcdefghilmnoprstuwxzAFGHLOPQRSUZ"
	sanlockNoValue   = "D"
)

// parseSanlock parses what follows the action. When it is wrong it prints why, where sanlock does: to the output.
func parseSanlock(action string, args []string, out io.Writer) (*sanlockOptions, bool) {
	o := &sanlockOptions{ioTimeout: 10 * time.Second}
	if action == "dump" {
		if len(args) == 0 {
			return nil, false
		}
		o.dumpPath, args = args[0], args[1:]
	}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		if len(a) != 2 || a[0] != '-' {
			fmt.Fprintf(out, "unknown option %s\nspace required before option value\n", a)
			return nil, false
		}
		if strings.Contains(sanlockNoValue, a[1:]) {
			o.debug = true
			continue
		}
		if a == "-c" { // a command line for clients: all the rest belongs to it
			break
		}
		if len(args) == 0 {
			fmt.Fprintf(out, "option '%c' requires arg\n", a[1])
			return nil, false
		}
		if !strings.Contains(sanlockWithValue, a[1:]) {
			fmt.Fprintf(out, "unknown option: %c\n", a[1])
			return nil, false
		}
		o.set(a[1], args[0], out)
		args = args[1:]
	}
	return o, o.checkSizes(out)
}

// set takes one option.
func (o *sanlockOptions) set(option byte, v string, out io.Writer) {
	switch option {
	case 's':
		o.lockspace = parseSanlockLockspace(v)
	case 'r':
		r, code := parseSanlockResource(v)
		if code != 0 {
			fmt.Fprintf(out, "resource arg parse error %d\n\n", code)
			return
		}
		if o.resource == nil { // the first one counts
			o.resource = r
		}
	case 'x':
		o.index = parseSanlockIndex(v)
	case 'e':
		o.name = v
	case 'i':
		o.hostID = uint64(cNumber(v))
	case 'g':
		o.generation = uint64(cNumber(v))
	case 'f':
		o.force = int(int32(cNumber(v)))
	case 'n':
		o.numHosts = int(int32(cNumber(v)))
	case 'z':
		o.clear = v != "0"
	case 'o':
		if n := int32(cNumber(v)); n != 0 {
			o.ioTimeout = time.Duration(n) * time.Second
		}
	case 'Z':
		o.sector = int(int32(cNumber(v)))
	case 'A':
		o.align = map[string]int64{"1M": 1 << 20, "2M": 2 << 20, "4M": 4 << 20, "8M": 8 << 20}[v]
	}
}

// checkSizes refuses an area size that does not go with the sector size.
func (o *sanlockOptions) checkSizes(out io.Writer) bool {
	if o.align == 0 || (leases.Geometry{SectorSize: o.sector, AlignSize: o.align}).Validate() == nil {
		return true
	}
	fmt.Fprintf(out, "Invalid sector_size/align_size combination (%d/%d)\n", o.sector, o.align)
	fmt.Fprintln(out, "Use one of: 512/1M, 4096/1M, 4096/2M, 4096/4M, 4096/8M.")
	return false
}

// sanlockLockspace is a LOCKSPACE string. Missing parts are empty.
type sanlockLockspace struct {
	name   string
	hostID uint64
	place  direct.Place
}

// sanlockResource is a RESOURCE string with one disk.
type sanlockResource struct {
	space, name string
	place       direct.Place
	disks       int
}

// sanlockIndex is an RINDEX string.
type sanlockIndex struct {
	space string
	place direct.Place
}

func parseSanlockLockspace(v string) sanlockLockspace {
	f := append(splitColons(v), "", "", "", "")
	return sanlockLockspace{name: f[0], hostID: uint64(cNumber(f[1])), place: direct.Place{Path: f[2], Offset: cOffset(f[3])}}
}

// parseSanlockResource returns 0, or the number that sanlock complains with.
func parseSanlockResource(v string) (*sanlockResource, int) {
	f := splitColons(v)
	if len(f) < 2 {
		return nil, -6
	}
	r := &sanlockResource{space: f[0], name: f[1]}
	if len(r.space) > 48 || len(r.name) > 48 {
		return nil, -1
	}
	for f = f[2:]; len(f) > 1; f = f[2:] {
		if !startsWithNumber(f[1]) {
			return nil, -1
		}
		r.disks++
		if r.disks == 1 {
			r.place = direct.Place{Path: f[0], Offset: cOffset(f[1])}
		}
	}
	if len(f) == 1 && r.disks == 0 {
		return nil, -1
	}
	return r, 0
}

func parseSanlockIndex(v string) sanlockIndex {
	f := append(splitColons(v), "", "", "")
	return sanlockIndex{space: cutName(f[0]), place: direct.Place{Path: f[1], Offset: cOffset(f[2])}}
}

// splitColons splits at colons that no backslash precedes, and takes those backslashes away.
func splitColons(s string) []string {
	f := []string{""}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ':':
			f[len(f)-1] += ":"
			i++
		case s[i] == ':':
			f = append(f, "")
		default:
			f[len(f)-1] += s[i : i+1]
		}
	}
	return f
}

// cOffset is an offset or size in bytes, or in MiB when an M is in it.
func cOffset(s string) int64 {
	n := cNumber(s)
	if strings.Contains(s, "M") {
		if n > math.MaxInt64>>20 || n < math.MinInt64>>20 {
			return -1
		}
		return n << 20
	}
	return n
}

// cNumber is the decimal number that s begins with, as C's library reads it: 0 when there is none.
func cNumber(s string) int64 {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	n := int64(0)
	for i := 0; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		d := int64(s[i] - '0')
		if n > (math.MaxInt64-d)/10 {
			n = -1 // as large as an unsigned number gets
			break
		}
		n = 10*n + d
	}
	if negative {
		return -n
	}
	return n
}

// startsWithNumber says whether cNumber would find digits.
func startsWithNumber(s string) bool {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	s = strings.TrimLeft(s, "+-")
	return s != "" && '0' <= s[0] && s[0] <= '9'
}
