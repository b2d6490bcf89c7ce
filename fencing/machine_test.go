package fencing

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDevice is a switch in memory with everything that real ones do wrong.
type fakeDevice struct {
	mu       sync.Mutex
	state    State
	slow     time.Duration // from an order to its effect
	liar     bool          // orders succeed and do nothing
	orderErr error         // answer of orders; they are carried out all the same unless liar
	unknowns int           // answers that say nothing, from the next question on
	askErr   error         // every question fails
	hang     bool          // nothing answers
	loseOn   int           // orders to switch on that get lost
	asked    int
	orders   []Action
	due      time.Time
	next     State
}

func (f *fakeDevice) Status(ctx context.Context) (State, error) {
	if f.hang {
		<-ctx.Done()
		return Unknown, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.next != "" && !time.Now().Before(f.due) {
		f.state, f.next = f.next, ""
	}
	if f.askErr != nil {
		return Unknown, f.askErr
	}
	if f.unknowns > 0 && len(f.orders) > 0 {
		f.unknowns--
		return Unknown, nil
	}
	Note(ctx, "looked")
	return f.state, nil
}

func (f *fakeDevice) order(ctx context.Context, a Action, want State) error {
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, a)
	if a == ActionOn && f.loseOn > 0 {
		f.loseOn--
		return nil
	}
	if !f.liar {
		f.next, f.due = want, time.Now().Add(f.slow)
	}
	return f.orderErr
}

func (f *fakeDevice) Off(ctx context.Context) error   { return f.order(ctx, ActionOff, Off) }
func (f *fakeDevice) On(ctx context.Context) error    { return f.order(ctx, ActionOn, On) }
func (f *fakeDevice) Reset(ctx context.Context) error { return f.order(ctx, ActionReset, On) }

func (f *fakeDevice) String() string {
	var s []string
	for _, a := range f.orders {
		s = append(s, string(a))
	}
	return strings.Join(s, " ")
}

// one is a machine with one device, under the limits that every real device has.
func one(t *testing.T, f *fakeDevice) *Machine {
	t.Helper()
	return group(t, 1, f)
}

// group is a machine with devices of these orders.
func group(t *testing.T, orders ...any) *Machine {
	t.Helper()
	var members []Member
	order := 0
	for _, x := range orders {
		switch x := x.(type) {
		case int:
			order = x
		case *fakeDevice:
			name := string(rune('a' + len(members)))
			members = append(members, Member{Name: name, Order: order, Device: Bounded(x, DefaultLimits())})
		}
	}
	m, err := NewMachine("h1", members, DefaultTiming())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMachine_Off(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		dev     *fakeDevice
		orders  string
		skipped bool
		err     error // nil: confirmed
		within  time.Duration
	}{
		{name: "at once", dev: &fakeDevice{state: On}, orders: "off"},
		{name: "already off", dev: &fakeDevice{state: Off}, skipped: true},
		{name: "slow", dev: &fakeDevice{state: On, slow: 30 * time.Second}, orders: "off", within: 41 * time.Second},
		{name: "seen soon", dev: &fakeDevice{state: On, slow: 3 * time.Second}, orders: "off", within: 6 * time.Second},
		{name: "status stays on", dev: &fakeDevice{state: On, liar: true}, orders: "off", err: ErrNotConfirmed, within: 4 * time.Minute},
		{name: "order fails, yet is carried out", dev: &fakeDevice{state: On, orderErr: ErrTimeout}, orders: "off"},
		{name: "order fails", dev: &fakeDevice{state: On, liar: true, orderErr: ErrRefused}, orders: "off", err: ErrRefused, within: 4 * time.Minute},
		{name: "order is futile", dev: &fakeDevice{state: On, orderErr: ErrAuth}, orders: "off", err: ErrAuth},
		{name: "three unknowns", dev: &fakeDevice{state: On, unknowns: 3}, orders: "off", within: 31 * time.Second},
		{name: "four unknowns", dev: &fakeDevice{state: On, unknowns: 4}, orders: "off", err: ErrNotConfirmed, within: 31 * time.Second},
		{name: "wrong password", dev: &fakeDevice{state: On, askErr: ErrAuth}, err: ErrAuth},
		{name: "dead with its host", dev: &fakeDevice{state: On, askErr: ErrUnreachable}, orders: "off", err: ErrUnreachable, within: 31 * time.Second},
		{name: "hangs", dev: &fakeDevice{state: On, hang: true}, err: ErrTimeout, within: 5 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r, err := one(t, tt.dev).Off(t.Context())
				if took := time.Since(start); took > tt.within {
					t.Errorf("took %s, more than %s", took, tt.within)
				}
				checkOff(t, r, err, tt.err)
				if r.Skipped != tt.skipped || tt.dev.String() != tt.orders {
					t.Errorf("skipped %v, orders %q", r.Skipped, tt.dev)
				}
			})
		})
	}
}

// checkOff holds result and error of an off together: evidence exactly when there is no error, and each error says that
// nothing is proven.
func checkOff(t *testing.T, r Result, err, want error) {
	t.Helper()
	ev, ok := r.Evidence()
	if want == nil {
		if err != nil || !ok || ev.Kind != KindPowerOff || !strings.Contains(ev.Detail, "looked") || r.OffAt.Before(r.Began) {
			t.Fatalf("error %v, evidence %+v", err, ev)
		}
		return
	}
	if ok || !errors.Is(err, want) || !errors.Is(err, ErrNotConfirmed) {
		t.Fatalf("evidence %v, error %v, want %v and %v", ok, err, want, ErrNotConfirmed)
	}
}

func TestMachine_Off_canceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r, err := one(t, &fakeDevice{state: On, liar: true}).Off(ctx)
		checkOff(t, r, err, context.DeadlineExceeded)
		if errors.Is(err, ErrTimeout) {
			t.Errorf("the caller's own deadline is told as the device's: %v", err)
		}
	})
}

func TestMachine_Off_groups(t *testing.T) {
	t.Parallel()
	on, off := func() *fakeDevice { return &fakeDevice{state: On} }, func() *fakeDevice { return &fakeDevice{state: Off} }
	mute := func() *fakeDevice { return &fakeDevice{state: On, askErr: ErrUnreachable} }
	liar := func() *fakeDevice { return &fakeDevice{state: On, liar: true} }
	tests := []struct {
		name   string
		first  []*fakeDevice
		second []*fakeDevice
		orders string // of all devices, "-" for none
		err    error
	}{
		{"both outlets", []*fakeDevice{on(), on()}, nil, "off,off", nil},
		{"one is off already", []*fakeDevice{on(), off()}, nil, "off,-", nil},
		{"one lies", []*fakeDevice{on(), liar()}, nil, "off,off", ErrNotConfirmed},
		{"one does not answer", []*fakeDevice{on(), mute()}, nil, "off,off", ErrNotConfirmed},
		{"off and one that does not answer", []*fakeDevice{off(), mute()}, nil, "-,off", ErrNotConfirmed},
		{"second group helps a mute one", []*fakeDevice{mute()}, []*fakeDevice{on()}, "-,off", nil},
		{"half a group gets no order when there is another", []*fakeDevice{on(), mute()}, []*fakeDevice{on()}, "-,-,off", nil},
		{"second group helps a liar", []*fakeDevice{liar()}, []*fakeDevice{on()}, "off,off", nil},
		{"second group is left alone", []*fakeDevice{on()}, []*fakeDevice{on()}, "off,-", nil},
		{"both groups fail", []*fakeDevice{mute()}, []*fakeDevice{liar()}, "-,off", ErrUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := append(append([]*fakeDevice{}, tt.first...), tt.second...)
				args := []any{1}
				for i, d := range all {
					if i == len(tt.first) {
						args = append(args, 2)
					}
					args = append(args, d)
				}
				r, err := group(t, args...).Off(t.Context())
				checkOff(t, r, err, tt.err)
				if got := ordersOf(all); got != tt.orders {
					t.Errorf("orders %s, want %s", got, tt.orders)
				}
			})
		})
	}
}

func ordersOf(devices []*fakeDevice) string {
	var out []string
	for _, d := range devices {
		s := d.String()
		if s == "" {
			s = "-"
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// flapping is off when it is asked after its order, and on again when the group is asked as one.
type flapping struct{ fakeDevice }

func (f *flapping) Status(ctx context.Context) (State, error) {
	st, err := f.fakeDevice.Status(ctx)
	if f.asked > 2 {
		return On, err
	}
	return st, err
}

func TestMachine_Off_groupAsOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		members := []Member{{"a", 1, &fakeDevice{state: On}}, {"b", 1, &flapping{fakeDevice{state: On}}}}
		m, err := NewMachine("h1", members, DefaultTiming())
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Off(t.Context())
		checkOff(t, r, err, ErrNotConfirmed)
	})
}

func TestMachine_On(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		devices []any
		orders  string
		skipped bool
		err     error
	}{
		{"one", []any{1, &fakeDevice{state: Off}}, "on", false, nil},
		{"already on", []any{1, &fakeDevice{state: On}}, "-", true, nil},
		{"a lost order is given again", []any{1, &fakeDevice{state: Off, loseOn: 1}}, "on on", false, nil},
		{"never more than two orders", []any{1, &fakeDevice{state: Off, loseOn: 9}}, "on on", false, ErrNotConfirmed},
		{"any of a group", []any{1, &fakeDevice{state: Off}, &fakeDevice{state: Off, liar: true}}, "on,on", false, nil},
		{"any of a group that does not answer", []any{1, &fakeDevice{state: Off, askErr: ErrUnreachable}, &fakeDevice{state: Off}}, "on,on", false, nil},
		{"the other supply too", []any{1, &fakeDevice{state: On}, &fakeDevice{state: Off}}, "-,on", false, nil},
		{"second group", []any{1, &fakeDevice{state: Off, askErr: ErrTimeout}, 2, &fakeDevice{state: Off}}, "-,on", false, nil},
		{"nobody", []any{1, &fakeDevice{state: Off, orderErr: ErrAuth, liar: true}}, "on", false, ErrAuth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, err := group(t, tt.devices...).On(t.Context())
				if !errors.Is(err, tt.err) || r.Skipped != tt.skipped {
					t.Fatalf("skipped %v, %v", r.Skipped, err)
				}
				var all []*fakeDevice
				for _, d := range tt.devices {
					if d, ok := d.(*fakeDevice); ok {
						all = append(all, d)
					}
				}
				if got := ordersOf(all); got != tt.orders {
					t.Errorf("orders %s, want %s", got, tt.orders)
				}
			})
		})
	}
}

func TestMachine_Restart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := &fakeDevice{state: On}, &fakeDevice{state: On}
		r, err := group(t, 1, a, b).Restart(t.Context())
		if err != nil || r.OffAt.IsZero() || ordersOf([]*fakeDevice{a, b}) != "off on,off on" {
			t.Fatalf("%v, %+v", err, r)
		}
		if r.Ended.Sub(r.OffAt) < DefaultTiming().Pause {
			t.Errorf("no pause between off and on: %s", r.Ended.Sub(r.OffAt))
		}
		// Without a confirmed off nothing is switched on, and never is a reset a substitute.
		c := &fakeDevice{state: On, liar: true}
		r, err = one(t, c).Restart(t.Context())
		checkOff(t, r, err, ErrNotConfirmed)
		if c.String() != "off" {
			t.Errorf("orders %s", c)
		}
		// The proof holds although the machine did not come back.
		d := &fakeDevice{state: On, loseOn: 9}
		r, err = one(t, d).Restart(t.Context())
		if _, ok := r.Evidence(); !ok || !errors.Is(err, ErrNotConfirmed) {
			t.Errorf("evidence %v, %v", ok, err)
		}
	})
}

func TestMachine_Status(t *testing.T) {
	t.Parallel()
	bad := &fakeDevice{askErr: ErrUnreachable}
	tests := []struct {
		name    string
		devices []any
		want    State
		err     error
	}{
		{"on", []any{1, &fakeDevice{state: On}}, On, nil},
		{"off", []any{1, &fakeDevice{state: Off}}, Off, nil},
		{"any on", []any{1, &fakeDevice{state: Off}, &fakeDevice{state: On}}, On, nil},
		{"all off", []any{1, &fakeDevice{state: Off}, &fakeDevice{state: Off}}, Off, nil},
		{"off and an error", []any{1, &fakeDevice{state: Off}, bad}, Unknown, ErrUnreachable},
		{"off and unknown", []any{1, &fakeDevice{state: Off}, &fakeDevice{state: Unknown}}, Unknown, nil},
		{"on and an error", []any{1, &fakeDevice{state: On}, bad}, On, nil},
		{"next group", []any{1, bad, 2, &fakeDevice{state: Off}}, Off, nil},
		{"first group's word", []any{1, &fakeDevice{state: On}, 2, &fakeDevice{state: Off}}, On, nil},
		{"none answers", []any{1, bad, 2, bad}, Unknown, ErrUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			st, r, err := group(t, tt.devices...).Status(t.Context())
			if st != tt.want || !errors.Is(err, tt.err) || len(r.Steps) == 0 {
				t.Fatalf("%s, %v, %+v", st, err, r)
			}
		})
	}
}

// checking is a device whose own check fails.
type checking struct {
	fakeDevice
	err error
}

func (c *checking) Check(context.Context) error { return c.err }

func TestMachine_Health(t *testing.T) {
	t.Parallel()
	good, bad := &fakeDevice{state: On}, &fakeDevice{askErr: ErrAuth}
	tests := []struct {
		name    string
		m       *Machine
		off, on bool
		broken  string
	}{
		{"all well", group(t, 1, good, good), true, true, ""},
		{"half a group", group(t, 1, good, bad), false, true, "b"},
		{"none", group(t, 1, bad), false, false, "a"},
		{"a spare is broken", group(t, 1, good, 2, bad), true, true, "b"},
		{"the spare would do it", group(t, 1, good, bad, 2, good), true, true, "b"},
		{"unknown is not well", group(t, 1, &fakeDevice{state: Unknown}), false, false, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := tt.m.Health(t.Context())
			if h.Off != tt.off || h.On != tt.on || strings.Join(h.Broken(), ",") != tt.broken {
				t.Fatalf("%+v", h)
			}
		})
	}
	c := &checking{fakeDevice{state: On}, errors.New("parameter x is deprecated")}
	m, err := NewMachine("h1", []Member{{"a", 1, Bounded(c, DefaultLimits())}}, DefaultTiming())
	if err != nil {
		t.Fatal(err)
	}
	if h := m.Health(t.Context()); h.Off || !strings.Contains(h.Devices[0].Error, "deprecated") {
		t.Fatalf("%+v", h)
	}
}

func TestNewMachine_refuses(t *testing.T) {
	t.Parallel()
	if _, err := NewMachine("h1", nil, DefaultTiming()); !errors.Is(err, ErrNoAgent) {
		t.Error(err)
	}
	if _, err := NewMachine("h1", []Member{{Name: "a"}}, DefaultTiming()); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	if _, err := NewMachine("h1", []Member{{"a", 1, NoDevice()}}, Timing{}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

func TestMachines_agent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &fakeDevice{state: On}
		m := one(t, dev)
		agent := Machines(func(host string) (*Machine, error) {
			if host != "h1" {
				return nil, ErrUnknownHost
			}
			return m, nil
		})
		ev, err := OffConfirmed(t.Context(), agent, agent, "h1")
		if err != nil || ev.Kind != KindPowerOff {
			t.Fatalf("%+v, %v", ev, err)
		}
		if err := agent.On(t.Context(), "h1"); err != nil {
			t.Fatal(err)
		}
		if _, err := OffConfirmed(t.Context(), agent, agent, "h2"); !errors.Is(err, ErrUnknownHost) {
			t.Fatal(err)
		}
		dev.liar = true
		if ev, err := OffConfirmed(t.Context(), agent, agent, "h1"); !errors.Is(err, ErrNotConfirmed) {
			t.Fatalf("%+v, %v", ev, err)
		}
	})
}
