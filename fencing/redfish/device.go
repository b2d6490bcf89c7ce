package redfish

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
)

// Device is one machine of a BMC.
type Device struct {
	config Config
	base   string // https://host:port
	http   *http.Client
}

// link is a reference in Redfish.
type link struct {
	ID string `json:"@odata.id"`
}

// system is what is needed of a ComputerSystem.
type system struct {
	ID         string `json:"Id"`
	PowerState string `json:"PowerState"`
	Actions    struct {
		Reset struct {
			Target    string   `json:"target"`
			Allowable []string `json:"ResetType@Redfish.AllowableValues"`
		} `json:"#ComputerSystem.Reset"`
	} `json:"Actions"`
}

// state reads PowerState. What is on its way is not there yet, and words that nobody knows are no off.
func (s system) state() fencing.State {
	switch s.PowerState {
	case "On":
		return fencing.On
	case "Off":
		return fencing.Off
	}
	return fencing.Unknown // PoweringOff, PoweringOn, Paused, nothing
}

// Status reads the system's PowerState.
func (d *Device) Status(ctx context.Context) (fencing.State, error) {
	st := fencing.Unknown
	err := d.with(ctx, func(c *conversation) error {
		s, path, err := c.system(ctx)
		if err != nil {
			return err
		}
		fencing.Note(ctx, fmt.Sprintf("%s has PowerState %q", path, s.PowerState))
		st = s.state()
		return nil
	})
	if err != nil {
		return fencing.Unknown, err
	}
	return st, nil
}

// Off orders ForceOff.
func (d *Device) Off(ctx context.Context) error { return d.reset(ctx, "ForceOff") }

// On orders On.
func (d *Device) On(ctx context.Context) error { return d.reset(ctx, "On", "ForceOn") }

// Reset orders ForceRestart.
func (d *Device) Reset(ctx context.Context) error { return d.reset(ctx, "ForceRestart") }

// Check looks whether the machine can be switched off and on at all.
func (d *Device) Check(ctx context.Context) error {
	return d.with(ctx, func(c *conversation) error {
		s, _, err := c.system(ctx)
		if err != nil {
			return err
		}
		for _, kinds := range [][]string{{"ForceOff"}, {"On", "ForceOn"}} {
			if _, _, err := s.choose(kinds); err != nil {
				return err
			}
		}
		return nil
	})
}

// reset posts the first of kinds that the BMC allows.
func (d *Device) reset(ctx context.Context, kinds ...string) error {
	return d.with(ctx, func(c *conversation) error {
		s, _, err := c.system(ctx)
		if err != nil {
			return err
		}
		kind, target, err := s.choose(kinds)
		if err != nil {
			return err
		}
		r, err := c.post(ctx, target, map[string]string{"ResetType": kind})
		if err != nil {
			return err
		}
		fencing.Note(ctx, fmt.Sprintf("%s answered with HTTP %d", kind, r.status))
		return nil
	})
}

// choose picks the kind of reset, and where to post it.
func (s system) choose(kinds []string) (kind, target string, err error) {
	r := s.Actions.Reset
	if r.Target == "" {
		return "", "", fmt.Errorf("system %s has no action Reset: %w", fencing.Clean(s.ID, 50), fencing.ErrUnsupported)
	}
	if target, err = localPath(r.Target); err != nil {
		return "", "", err
	}
	for _, k := range kinds {
		if len(r.Allowable) == 0 || slices.Contains(r.Allowable, k) {
			return k, target, nil
		}
	}
	return "", "", fmt.Errorf("system %s allows %s, and not %s: %w", fencing.Clean(s.ID, 50),
		fencing.Clean(strings.Join(r.Allowable, ", "), 300), strings.Join(kinds, " or "), fencing.ErrUnsupported)
}

// system finds the configured system, or the only one.
func (c *conversation) system(ctx context.Context) (system, string, error) {
	path, err := c.systemPath(ctx)
	if err != nil {
		return system{}, "", err
	}
	var s system
	if err := c.get(ctx, path, &s); err != nil {
		return system{}, "", err
	}
	return s, path, nil
}

func (c *conversation) systemPath(ctx context.Context) (string, error) {
	want := c.d.config.System
	if strings.HasPrefix(want, "/") {
		return want, nil
	}
	var service struct{ Systems link }
	if err := c.get(ctx, root, &service); err != nil {
		return "", err
	}
	collection, err := localPath(service.Systems.ID)
	if err != nil {
		return "", fmt.Errorf("the service root's Systems: %w", err)
	}
	var list struct{ Members []link }
	if err := c.get(ctx, collection, &list); err != nil {
		return "", err
	}
	return pick(list.Members, want)
}

// pick chooses among the systems of a BMC. To guess would be to switch off another machine.
func pick(members []link, want string) (string, error) {
	var names []string
	for _, m := range members {
		path, err := localPath(m.ID)
		if err != nil {
			return "", err
		}
		name := path[strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/')+1:]
		name = strings.TrimSuffix(name, "/")
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
		if name == want || want == "" && len(members) == 1 {
			return path, nil
		}
		names = append(names, name)
	}
	has := fencing.Clean(strings.Join(names, ", "), 300)
	if want == "" {
		return "", fmt.Errorf("the BMC has %d systems (%s): say which with the option system: %w", len(members), has, fencing.ErrConfig)
	}
	return "", fmt.Errorf("the BMC has no system %q, but %s: %w", want, has, fencing.ErrConfig)
}

// with runs fn with a login, and ends it.
func (d *Device) with(ctx context.Context, fn func(*conversation) error) error {
	c := &conversation{d: d}
	if d.config.Auth == AuthSession {
		if err := c.login(ctx); err != nil {
			return fmt.Errorf("BMC %s: logging in: %w", d.base, err)
		}
		defer c.logout(ctx)
	}
	if err := fn(c); err != nil {
		return fmt.Errorf("BMC %s: %w", d.base, err)
	}
	return nil
}

// login makes a session.
func (c *conversation) login(ctx context.Context) error {
	r, err := c.post(ctx, root+"SessionService/Sessions", map[string]string{
		"UserName": c.d.config.User, "Password": c.d.config.Secret.Reveal(),
	})
	if err != nil {
		return err
	}
	c.token = r.header.Get("X-Auth-Token")
	if c.token == "" {
		return fmt.Errorf("the BMC gave no token: %w", fencing.ErrGarbage)
	}
	if u, err := url.Parse(r.header.Get("Location")); err == nil {
		c.session, _ = localPath(u.Path)
	}
	return nil
}

// logout ends the session: BMCs have few. Nothing depends on it, and it is tried at the end of a call's time too.
func (c *conversation) logout(ctx context.Context) {
	if c.session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = c.do(ctx, http.MethodDelete, c.session, nil)
}
