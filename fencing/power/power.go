// Package power makes power devices of their configuration: a table of types, each with its options, and one way to open them.
//
// The configuration is what the cluster commits and people write; docs/power-devices.md explains it. Everything wrong with one is
// told at once, before it is committed. What is wrong only where and when it is used (a program that is not installed, a
// parameter that an agent no longer knows) is told by Machine.Health and Warnings.
package power

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/clusterlabs"
)

// MaxDevices bounds the devices of one machine.
const MaxDevices = 16

const (
	maxOrder  = 99
	maxOption = 1024 // bytes of a value
)

// Config is one power device of one machine.
type Config struct {
	// Name tells the devices of a machine apart.
	Name string
	// Type is one of Types.
	Type string
	// Order is the device's place: small ones first, equal ones together as a group.
	Order int
	// Address and Port are where the device listens; a Port of 0 is the type's own.
	Address string
	Port    int
	User    string
	Secret  fencing.Secret
	// Options are the type's.
	Options map[string]string
}

var deviceName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Opener opens devices on this host.
type Opener struct {
	agents *clusterlabs.Catalog
}

// NewOpener takes the folders where fence agents are; nil is clusterlabs.DefaultDirs.
func NewOpener(agentDirs []string) (*Opener, error) {
	if agentDirs == nil {
		agentDirs = clusterlabs.DefaultDirs()
	}
	agents, err := clusterlabs.NewCatalog(agentDirs)
	if err != nil {
		return nil, err
	}
	return &Opener{agents}, nil
}

// Validate tells everything that is wrong with a configuration, wherever it is to be used. Nothing is opened or asked.
func (c Config) Validate() error {
	_, err := c.prepare()
	return err
}

// prepared is a configuration that was checked.
type prepared struct {
	open   func(*Opener) (fencing.Device, error)
	limits fencing.Limits
	warn   []string
}

// prepare checks a configuration and reads its options.
func (c Config) prepare() (prepared, error) {
	var problems []string
	if !deviceName.MatchString(c.Name) {
		problems = append(problems, fmt.Sprintf("name %q is not of small letters, digits, dots, dashes, underscores", fencing.Clean(c.Name, 80)))
	}
	if c.Order < 0 || c.Order > maxOrder {
		problems = append(problems, fmt.Sprintf("order %d is not between 0 and %d", c.Order, maxOrder))
	}
	if c.Port < 0 || c.Port > 65535 {
		problems = append(problems, fmt.Sprintf("port %d is none", c.Port))
	}
	kind, ok := types[c.Type]
	if !ok {
		problems = append(problems, fmt.Sprintf("type %q is none of %s", fencing.Clean(c.Type, 40), strings.Join(Types(), ", ")))
		return prepared{}, c.wrong(problems, nil)
	}
	o := &options{given: c.Options, known: kind.options}
	p := prepared{limits: o.limits()}
	var err error
	p.open, p.warn, err = kind.prepare(c, o)
	if !kind.anyOption {
		o.refuseUnknown(c.Type)
	}
	problems = append(problems, o.problems...)
	if len(problems) > 0 || err != nil {
		return prepared{}, c.wrong(problems, err)
	}
	return p, nil
}

// wrong puts problems together; err is a type's own complaint.
func (c Config) wrong(problems []string, err error) error {
	text := "power device " + fencing.Clean(c.Name, 80)
	if len(problems) > 0 {
		err = errors.Join(fmt.Errorf("%s: %w", strings.Join(problems, "; "), fencing.ErrConfig), err)
	}
	return fmt.Errorf("%s: %w", text, err)
}

// Open makes the device, with the deadlines that its options ask for.
func (o *Opener) Open(c Config) (fencing.Device, error) {
	p, err := c.prepare()
	if err != nil {
		return nil, err
	}
	dev, err := p.open(o)
	if err != nil {
		return nil, fmt.Errorf("power device %s: %w", c.Name, err)
	}
	return fencing.Bounded(dev, p.limits), nil
}

// warner is a device that knows what will not work for long.
type warner interface {
	Warnings(ctx context.Context) ([]string, error)
}

// Warnings tells what is allowed and not wise. It may run a fence agent for its metadata; err says why that failed, or what the
// agent's metadata forbid.
func (o *Opener) Warnings(ctx context.Context, c Config) ([]string, error) {
	p, err := c.prepare()
	if err != nil {
		return nil, err
	}
	dev, err := p.open(o)
	if err != nil {
		return p.warn, err
	}
	w, ok := dev.(warner)
	if !ok {
		return p.warn, nil
	}
	more, err := w.Warnings(ctx)
	return append(p.warn, more...), err
}

// Machine opens all devices of a host. One that cannot be opened here is no reason not to use the others: it fails with its
// reason whenever it is asked, and its group with it. No devices give ErrNoAgent.
func (o *Opener) Machine(host string, configs []Config, timing fencing.Timing) (*fencing.Machine, error) {
	if len(configs) > MaxDevices {
		return nil, tooMany(len(configs))
	}
	var members []fencing.Member
	for i, c := range configs {
		dev, err := o.Open(c)
		if err != nil {
			dev = broken{err}
		}
		name := cmp.Or(fencing.Clean(c.Name, 80), fmt.Sprintf("number %d", i+1))
		members = append(members, fencing.Member{Name: name, Order: c.Order, Device: dev})
	}
	return fencing.NewMachine(host, members, timing)
}

// ValidateAll tells what is wrong with the devices of one machine, alone and together.
func ValidateAll(configs []Config) error {
	var errs []error
	if len(configs) > MaxDevices {
		errs = append(errs, tooMany(len(configs)))
	}
	seen := map[string]bool{}
	for _, c := range configs {
		errs = append(errs, c.Validate())
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("two power devices are called %s: %w", c.Name, fencing.ErrConfig))
		}
		seen[c.Name] = true
		if c.Type == TypeNone && len(configs) > 1 {
			errs = append(errs, fmt.Errorf("power device %s of type none stands beside others: %w", c.Name, fencing.ErrConfig))
		}
	}
	return errors.Join(errs...)
}

func tooMany(n int) error {
	return fmt.Errorf("%d power devices for one host, more than %d: %w", n, MaxDevices, fencing.ErrConfig)
}

// broken is a device that could not be opened.
type broken struct{ err error }

func (b broken) Status(context.Context) (fencing.State, error) { return fencing.Unknown, b.err }
func (b broken) Off(context.Context) error                     { return b.err }
func (b broken) On(context.Context) error                      { return b.err }
func (b broken) Reset(context.Context) error                   { return b.err }

// Types lists the types of devices, sorted.
func Types() []string { return slices.Sorted(maps.Keys(types)) }

// Options lists what a type takes, with the options that all types have; nil for a type that there is none of. Type exec takes
// the parameters of its agent besides.
func Options(typ string) []Option {
	kind, ok := types[typ]
	if !ok {
		return nil
	}
	return append(slices.Clone(kind.options), common...)
}
