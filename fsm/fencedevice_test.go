package fsm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func device(host, name string, order int) *FenceDevicePut {
	return &FenceDevicePut{Device: FenceDevice{Host: host, Name: name, Type: FenceIPMI, Order: order, Address: "10.0.0.1", User: "u", Secret: []byte("sealed")}, Time: 9}
}

func TestFenceDevicePut_rules(t *testing.T) {
	t.Parallel()
	changed := func(change func(*FenceDevice)) []Command {
		return []Command{with(device("h1", "bmc", 1), func(c *FenceDevicePut) { change(&c.Device) })}
	}
	var many []Command
	for i := range MaxFenceDevices {
		many = append(many, device("h1", fmt.Sprint("d", i), i))
	}
	hosts := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint("p", i))
		}
		return out
	}
	runCases(t, []outcomeCase{
		{"good", []Command{device("h1", "bmc", 1)}, nil},
		{"again", []Command{device("h1", "bmc", 1), device("h1", "bmc", 2)}, nil},
		{"no such host", []Command{device("h2", "bmc", 1)}, ErrNotFound},
		{"one too many", append(slices.Clone(many), device("h1", "more", 1)), ErrFull},
		{"replaced when full", append(slices.Clone(many), device("h1", "d3", 7)), nil},
		{"no name", changed(func(d *FenceDevice) { d.Name = "" }), ErrInvalid},
		{"slash in the name", changed(func(d *FenceDevice) { d.Name = "a/b" }), ErrInvalid},
		{"long name", changed(func(d *FenceDevice) { d.Name = strings.Repeat("x", 64) }), ErrInvalid},
		{"unknown type", changed(func(d *FenceDevice) { d.Type = "axe" }), ErrInvalid},
		{"negative order", changed(func(d *FenceDevice) { d.Order = -1 }), ErrInvalid},
		{"port", changed(func(d *FenceDevice) { d.Port = 65536 }), ErrInvalid},
		{"long address", changed(func(d *FenceDevice) { d.Address = strings.Repeat("x", 257) }), ErrInvalid},
		{"long secret", changed(func(d *FenceDevice) { d.Secret = make([]byte, maxSecret+1) }), ErrInvalid},
		{"exec with its agent", changed(func(d *FenceDevice) { d.Type, d.Options = FenceExec, []Option{{"agent", "fence_x"}} }), nil},
		{"exec without its agent", changed(func(d *FenceDevice) { d.Type = FenceExec }), ErrInvalid},
		{"option twice", changed(func(d *FenceDevice) { d.Options = []Option{{"b", "1"}, {"a", "1"}, {"b", "2"}} }), ErrInvalid},
		{"option without a name", changed(func(d *FenceDevice) { d.Options = []Option{{"", "1"}} }), ErrInvalid},
		{"long option", changed(func(d *FenceDevice) { d.Options = []Option{{"a", strings.Repeat("x", 1025)}} }), ErrInvalid},
		{"too many options", changed(func(d *FenceDevice) { d.Options = make([]Option, maxOptions+1) }), ErrInvalid},
		{"proxies", changed(func(d *FenceDevice) { d.Proxies = hosts(maxProxies) }), nil},
		{"too many proxies", changed(func(d *FenceDevice) { d.Proxies = hosts(maxProxies + 1) }), ErrInvalid},
		{"itself as proxy", changed(func(d *FenceDevice) { d.Proxies = []string{"h1"} }), ErrInvalid},
		{"proxy twice", changed(func(d *FenceDevice) { d.Proxies = []string{"h2", "h2"} }), ErrInvalid},
		{"proxy of no name", changed(func(d *FenceDevice) { d.Proxies = []string{"H 2"} }), ErrInvalid},
		{"removed", []Command{device("h1", "bmc", 1), &FenceDeviceRemove{Host: "h1", Name: "bmc"}}, nil},
		{"removed twice", []Command{device("h1", "bmc", 1), &FenceDeviceRemove{Host: "h1", Name: "bmc"}, &FenceDeviceRemove{Host: "h1", Name: "bmc"}}, ErrNotFound},
	})
}

func TestDevicesOf_byOrderThenName(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	first := device("h1", "z", 1)
	first.Device.Options = []Option{{"b", "2"}, {"a", "1"}}
	run(t, f, device("h1", "b", 2), device("h1", "a", 2), first, device("h1", "c", 2))
	var names []string
	for _, d := range f.View().DevicesOf("h1") {
		names = append(names, d.Name)
	}
	if fmt.Sprint(names) != "[z a b c]" {
		t.Errorf("%v", names)
	}
	d, _ := f.View().FenceDevices.Get(FenceDeviceKey("h1", "z"))
	if v, ok := d.Option("a"); !ok || v != "1" || d.Options[0].Key != "a" || d.Updated != 9 {
		t.Errorf("%+v", d)
	}
	if _, ok := d.Option("c"); ok {
		t.Error("an option that was not given")
	}
}

// Whoever marshals a device for the API must not show its secret, not even sealed.
func TestFenceDevice_jsonShowsNoSecret(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(device("h1", "bmc", 1).Device)
	if err != nil || strings.Contains(strings.ToLower(string(b)), "secret") || strings.Contains(string(b), "c2VhbGVk") {
		t.Errorf("%s %v", b, err)
	}
}
