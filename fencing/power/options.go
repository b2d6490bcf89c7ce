package power

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
)

// Option describes one option of a type, for help texts.
type Option struct {
	Name, Default, Help string
}

// Bounds of the limits that can be asked for: an answer needs some time, and a fence must not wait for ever.
const (
	minLimit = time.Second
	maxLimit = 10 * time.Minute
)

// common are options of every type.
var common = []Option{
	{"status_timeout", fencing.DefaultLimits().Status.String(), "how long a question may take"},
	{"order_timeout", fencing.DefaultLimits().Order.String(), "how long off, on or reset may take"},
}

// options reads the given options, and collects what is wrong with them.
type options struct {
	given    map[string]string
	known    []Option
	problems []string
}

func (o *options) bad(format string, args ...any) {
	o.problems = append(o.problems, fmt.Sprintf(format, args...))
}

// text is an option, or its default from the table.
func (o *options) text(name string) string {
	v, ok := o.given[name]
	if len(v) > maxOption {
		o.bad("option %s has more than %d bytes", name, maxOption)
		return ""
	}
	if ok {
		return v
	}
	i := slices.IndexFunc(o.known, func(k Option) bool { return k.Name == name })
	if i < 0 {
		return ""
	}
	return o.known[i].Default
}

// yes is an option that is yes or no.
func (o *options) yes(name string) bool {
	switch v := o.text(name); v {
	case "yes", "true", "1":
		return true
	case "", "no", "false", "0":
	default:
		o.bad("option %s is %q, neither yes nor no", name, fencing.Clean(v, 40))
	}
	return false
}

// numbers is a list of numbers with commas.
func (o *options) numbers(name string) []int {
	var out []int
	for part := range strings.SplitSeq(o.text(name), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			o.bad("option %s: %q is not a number", name, fencing.Clean(part, 40))
			return nil
		}
		out = append(out, n)
	}
	return out
}

// limits reads the options that all types have.
func (o *options) limits() fencing.Limits {
	l := fencing.DefaultLimits()
	for name, to := range map[string]*time.Duration{"status_timeout": &l.Status, "order_timeout": &l.Order} {
		v, ok := o.given[name]
		if !ok {
			continue
		}
		d, err := time.ParseDuration(v)
		if err != nil || d < minLimit || d > maxLimit {
			o.bad("option %s is %q, not a time between %s and %s", name, fencing.Clean(v, 40), minLimit, maxLimit)
			continue
		}
		*to = d
	}
	return l
}

// refuseUnknown complains about options that the type does not have: a misspelt one would be a default in silence.
func (o *options) refuseUnknown(typ string) {
	var names []string
	for _, k := range append(slices.Clone(o.known), common...) {
		names = append(names, k.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(o.given)) {
		if !slices.Contains(names, name) {
			o.bad("type %s has no option %s, but %s", typ, fencing.Clean(name, 40), strings.Join(names, ", "))
		}
	}
}
