package fencing

import (
	"context"
	"errors"
	"slices"
	"time"
)

// DeviceHealth is what a question without consequences tells of one device.
type DeviceHealth struct {
	Name  string        `json:"name"`
	Order int           `json:"order"`
	State State         `json:"state"`
	Works bool          `json:"works"`
	Error string        `json:"error,omitempty"`
	Took  time.Duration `json:"took_ns"`
}

// Health tells which actions would work now. It looks at each device, so that a spare one that is broken is known before
// it is needed.
type Health struct {
	At      time.Time      `json:"at"`
	Off     bool           `json:"off_works"` // all of some group answer
	On      bool           `json:"on_works"`  // any device answers
	Devices []DeviceHealth `json:"devices"`
}

// Broken lists the names of the devices that do not work.
func (h Health) Broken() []string {
	var names []string
	for _, d := range h.Devices {
		if !d.Works {
			names = append(names, d.Name)
		}
	}
	return names
}

// Health asks every device for its status, and those that can check themselves to do it. Nothing is switched. A device that
// answers "unknown" does not work: an off of it could not be confirmed.
func (m *Machine) Health(ctx context.Context) Health {
	h := Health{At: time.Now()}
	all := slices.Concat(m.groups...)
	devices := make([]DeviceHealth, len(all))
	each(all, func(i int, mem Member) error {
		devices[i] = deviceHealth(ctx, mem)
		return nil
	})
	h.Devices = devices
	n := 0
	for _, g := range m.groups {
		part := devices[n : n+len(g)]
		n += len(g)
		h.Off = h.Off || !slices.ContainsFunc(part, func(d DeviceHealth) bool { return !d.Works })
		h.On = h.On || slices.ContainsFunc(part, func(d DeviceHealth) bool { return d.Works })
	}
	return h
}

// deviceHealth looks at one device.
func deviceHealth(ctx context.Context, mem Member) DeviceHealth {
	d := DeviceHealth{Name: mem.Name, Order: mem.Order}
	began := time.Now()
	st, err := mem.Device.Status(ctx)
	if c, ok := mem.Device.(Checker); ok {
		err = errors.Join(err, c.Check(ctx))
	}
	if err == nil && st != On && st != Off {
		err = errors.New("the device does not know the state of the power, so an off could not be confirmed")
	}
	d.State, d.Works, d.Took = st, err == nil, time.Since(began)
	if err != nil {
		d.State, d.Error = Unknown, Clean(err.Error(), MaxNote)
	}
	return d
}
