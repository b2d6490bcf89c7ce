package host

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fsm"
)

// devices is a mirror with power devices of h1.
func devices(t *testing.T, list ...fsm.FenceDevice) *fsm.State {
	t.Helper()
	f := fsm.New()
	cmds := []fsm.Command{&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: fsm.Host{Name: "h1", KeyHash: "k"}, Time: 1}}
	for _, d := range list {
		d.Host = "h1"
		cmds = append(cmds, &fsm.FenceDevicePut{Device: d, Time: 2})
	}
	for i, c := range cmds {
		b, err := fsm.Encode(c, "")
		if err != nil {
			t.Fatal(err)
		}
		if out := f.Apply(uint64(i+1), b).(fsm.Outcome); out.Err() != nil {
			t.Fatal(out.Err())
		}
	}
	return f.View()
}

func bmc(name string, order int, proxies ...string) fsm.FenceDevice {
	return fsm.FenceDevice{Name: name, Type: fsm.FenceIPMI, Order: order, Address: "10.0.0.1", Proxies: proxies}
}

func TestPowers_Groups(t *testing.T) {
	t.Parallel()
	agent := fencing.None{}
	disabled := bmc("old", 0)
	disabled.Disabled = true
	none := fsm.FenceDevice{Name: "none", Type: fsm.FenceNone}
	process := fsm.FenceDevice{Name: "sup", Type: fsm.FenceProcess, Order: 3}
	for _, tc := range []struct {
		name  string
		agent fencing.Agent
		list  []fsm.FenceDevice
		want  []manager.Group
	}{
		{"nothing", nil, nil, nil},
		{"the configuration file's, for hosts without any", agent, nil, []manager.Group{{Label: "process", Local: true}}},
		{"by order, those of one order together", agent, []fsm.FenceDevice{bmc("pdu-b", 2, "h3"), bmc("pdu-a", 2, "h2", "h3"), bmc("bmc", 1), process},
			[]manager.Group{{Order: 1, Label: "bmc"}, {Order: 2, Label: "pdu-a,pdu-b", Prefer: []string{"h2", "h3"}}, {Order: 3, Label: "sup", Local: true}}},
		{"one that is not used", agent, []fsm.FenceDevice{disabled}, nil},
		{"one of two that are used together", agent, []fsm.FenceDevice{disabled, bmc("new", 0), bmc("bmc", 1)}, []manager.Group{{Order: 1, Label: "bmc"}}},
		{"none says none, whatever the configuration file says", agent, []fsm.FenceDevice{none}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := (powers{agent: tc.agent}).Groups(devices(t, tc.list...), "h1"); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
	var many []fsm.FenceDevice
	for i := range 16 {
		many = append(many, bmc(strings.Repeat("x", 60)+string(rune('a'+i)), 1))
	}
	if got := (powers{}).Groups(devices(t, many...), "h1"); len(got) != 1 || len(got[0].Label) > maxLabel {
		t.Errorf("%d groups, a name of %d bytes", len(got), len(got[0].Label))
	}
}

// Of a group with a device that is not used the others are not switched either: the machine would run on by that one, and be taken for dead.
func TestPowers_Open_partOfAGroup(t *testing.T) {
	t.Parallel()
	disabled := bmc("outlet-b", 2)
	disabled.Disabled = true
	open := func(fsm.FenceDevice, fencing.Secret) (fencing.Device, error) {
		return &fakeDevice{state: fencing.Off}, nil
	}
	p := powers{open: open}
	if _, err := p.Open(devices(t, bmc("outlet-a", 2), disabled), "h1", 2); !errors.Is(err, fencing.ErrNoAgent) {
		t.Errorf("half a group: %v", err)
	}
	if _, err := p.Open(devices(t, bmc("outlet-a", 2), bmc("outlet-b", 2)), "h1", 2); err != nil {
		t.Errorf("a whole group: %v", err)
	}
}

// fakeDevice is a power device that notes with what secret it was opened.
type fakeDevice struct{ state fencing.State }

func (d *fakeDevice) Status(context.Context) (fencing.State, error) { return d.state, nil }
func (d *fakeDevice) Off(context.Context) error                     { d.state = fencing.Off; return nil }
func (d *fakeDevice) On(context.Context) error                      { d.state = fencing.On; return nil }
func (d *fakeDevice) Reset(context.Context) error                   { return fencing.ErrUnsupported }

// A device is opened with its secret in the clear, on the host that uses it and nowhere before.
func TestPowers_Open(t *testing.T) {
	t.Parallel()
	ca, err := join.NewCA("c", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	box, err := ca.Box(powerPurpose)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := box.Seal(fsm.FenceDeviceKey("h1", "bmc"), []byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	dev, opened := &fakeDevice{state: fencing.On}, ""
	p := powers{box: func() (*join.Box, error) { return box, nil },
		open: func(d fsm.FenceDevice, s fencing.Secret) (fencing.Device, error) {
			opened = d.Name + " " + s.Reveal()
			return dev, nil
		}}
	good, stolen := bmc("bmc", 1), bmc("other", 2)
	good.Secret, stolen.Secret = sealed, sealed
	view := devices(t, good, stolen, fsm.FenceDevice{Name: "sup", Type: fsm.FenceProcess, Order: 3}, bmc("pdu", 4), fsm.FenceDevice{Name: "sup2", Type: fsm.FenceProcess, Order: 4})
	sw, err := p.Open(view, "h1", 1)
	if err != nil || opened != "bmc s3cret" {
		t.Fatalf("opened %q, %v", opened, err)
	}
	if st, _, err := sw.Status(t.Context()); err != nil || st != fencing.On {
		t.Errorf("%s, %v", st, err)
	}
	if ev, err := sw.Off(t.Context()); err != nil || ev.Kind != fencing.KindPowerOff || ev.Detail == "" || strings.Contains(ev.Detail, "s3cret") {
		t.Errorf("%+v, %v", ev, err)
	}
	if _, err := sw.On(t.Context()); err != nil || dev.state != fencing.On {
		t.Errorf("%s, %v", dev.state, err)
	}
	if h := sw.Health(t.Context()); !h.Off || !h.On {
		t.Errorf("%+v", h)
	}
	if _, err := p.Open(view, "h1", 2); !errors.Is(err, join.ErrSealed) {
		t.Errorf("a secret that was sealed for another device: %v", err)
	}
	if _, err := p.Open(view, "h1", 3); !errors.Is(err, fencing.ErrConfig) {
		t.Errorf("no supervisor here: %v", err)
	}
	if _, err := p.Open(view, "h1", 4); !errors.Is(err, fencing.ErrConfig) {
		t.Errorf("a supervisor in a group with others: %v", err)
	}
	if _, err := p.Open(view, "h1", 9); !errors.Is(err, fencing.ErrNoAgent) {
		t.Errorf("an order without devices: %v", err)
	}
}

// An off that its own status does not confirm is no evidence.
func TestMachineSwitch_lies(t *testing.T) {
	t.Parallel()
	timing := fencing.Timing{First: time.Millisecond, Longest: time.Millisecond, Polls: 2, OnOrders: 1}
	m, err := fencing.NewMachine("h1", []fencing.Member{{Name: "bmc", Device: liar{&fakeDevice{}}}}, timing)
	if err != nil {
		t.Fatal(err)
	}
	if ev, err := (machineSwitch{m}).Off(t.Context()); !errors.Is(err, fencing.ErrNotConfirmed) || ev.Kind != "" {
		t.Errorf("%+v, %v", ev, err)
	}
}

// liar says yes and does nothing.
type liar struct{ *fakeDevice }

func (liar) Status(context.Context) (fencing.State, error) { return fencing.On, nil }
func (liar) Off(context.Context) error                     { return nil }
