package manager

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// Bounds of what can be set.
const (
	MaxGrace    = time.Hour
	MaxQuiet    = 24 * time.Hour
	MaxDisarmed = 7 * 24 * time.Hour
	MaxReserve  = 200
	MaxIdle     = 30 * 24 * time.Hour
)

// ErrSetting says that a setting cannot have that value.
var ErrSetting = errors.New("the setting cannot have that value")

// FenceSettings changes what is not nil.
type FenceSettings struct {
	Enabled, SkipIfLive, SkipIfHalfDead, Restart *bool
	Grace, Quiet                                 *time.Duration // 0: the profile's own
}

// PowersaveSettings changes what is not nil.
type PowersaveSettings struct {
	Enabled *bool
	Reserve *int
	Idle    *time.Duration // 0: the default
}

// Settings changes how the manager fences and saves power. It works on any host; each change is an event.
type Settings struct {
	Cluster Cluster
	Now     func() time.Time
}

// setting is one key with its new value.
type setting struct{ key, value string }

// Fencing changes the policies of fencing.
func (s Settings) Fencing(ctx context.Context, by string, c FenceSettings) error {
	var all []setting
	for _, f := range []struct {
		key   string
		value *bool
	}{{fsm.ConfigFencingEnabled, c.Enabled}, {fsm.ConfigSkipIfLive, c.SkipIfLive}, {fsm.ConfigSkipIfHalfDead, c.SkipIfHalfDead}, {fsm.ConfigFencingRestart, c.Restart}} {
		if f.value != nil {
			all = append(all, setting{f.key, strconv.FormatBool(*f.value)})
		}
	}
	for _, d := range []struct {
		key         string
		value       *time.Duration
		least, most time.Duration
	}{{fsm.ConfigFencingGrace, c.Grace, MinGrace, MaxGrace}, {fsm.ConfigFencingQuiet, c.Quiet, time.Second, MaxQuiet}} {
		v, err := span(d.key, d.value, d.least, d.most)
		if err != nil {
			return err
		}
		all = append(all, v...)
	}
	return s.set(ctx, by, "fencing.set", all)
}

// Powersave changes the power-saving policy.
func (s Settings) Powersave(ctx context.Context, by string, c PowersaveSettings) error {
	var all []setting
	if c.Enabled != nil {
		all = append(all, setting{fsm.ConfigPowersave, strconv.FormatBool(*c.Enabled)})
	}
	if c.Reserve != nil {
		if *c.Reserve < 0 || *c.Reserve > MaxReserve {
			return fmt.Errorf("%s = %d: use 0 to %d: %w", fsm.ConfigPowersaveSpare, *c.Reserve, MaxReserve, ErrSetting)
		}
		all = append(all, setting{fsm.ConfigPowersaveSpare, strconv.Itoa(*c.Reserve)})
	}
	v, err := span(fsm.ConfigPowersaveIdle, c.Idle, time.Second, MaxIdle)
	if err != nil {
		return err
	}
	return s.set(ctx, by, "powersave.set", append(all, v...))
}

// span checks a duration; 0 takes the setting back.
func span(key string, value *time.Duration, least, most time.Duration) ([]setting, error) {
	switch {
	case value == nil:
		return nil, nil
	case *value == 0:
		return []setting{{key, ""}}, nil
	case *value < least || *value > most:
		return nil, fmt.Errorf("%s = %s: use %s to %s, or 0 for the profile's own: %w", key, *value, least, most, ErrSetting)
	}
	return []setting{{key, value.String()}}, nil
}

// set commits the keys one by one, and an event that names them.
func (s Settings) set(ctx context.Context, by, kind string, all []setting) error {
	if len(all) == 0 {
		return nil
	}
	words := ""
	for _, c := range all {
		if err := s.apply(ctx, &fsm.ConfigSet{Key: c.key, Value: c.value}); err != nil {
			return fmt.Errorf("setting %s: %w", c.key, err)
		}
		if words != "" {
			words += ", "
		}
		words += c.key + "=" + c.value
	}
	return s.event(ctx, fsm.Info, kind, "", fmt.Sprintf("%s set %s", by, words), "")
}

// Disarm forbids fencing without a person for a while, after which it is allowed again by itself.
func (s Settings) Disarm(ctx context.Context, by, reason string, d time.Duration) (until time.Time, err error) {
	if d < time.Second || d > MaxDisarmed {
		return until, fmt.Errorf("disarmed for %s: use 1s to %s: %w", d, MaxDisarmed, ErrSetting)
	}
	until = s.Now().Add(d)
	who := by
	if reason != "" {
		who += ": " + reason
	}
	for _, c := range []setting{{fsm.ConfigDisarmedBy, who}, {fsm.ConfigDisarmedUntil, strconv.FormatInt(until.UnixNano(), 10)}} {
		if err := s.apply(ctx, &fsm.ConfigSet{Key: c.key, Value: c.value}); err != nil {
			return until, fmt.Errorf("disarming: %w", err)
		}
	}
	message := fmt.Sprintf("%s disarmed fencing until %s", by, until.UTC().Format(time.RFC3339))
	return until, s.event(ctx, fsm.Warning, "fencing.disarmed", "", message, reason)
}

// Arm takes that back.
func (s Settings) Arm(ctx context.Context, by string) error {
	for _, key := range []string{fsm.ConfigDisarmedUntil, fsm.ConfigDisarmedBy} {
		if err := s.apply(ctx, &fsm.ConfigSet{Key: key}); err != nil {
			return fmt.Errorf("arming: %w", err)
		}
	}
	return s.event(ctx, fsm.Info, "fencing.armed", "", by+" armed fencing", "")
}

// PutDevice adds a power device or replaces it. Its secret is sealed already.
func (s Settings) PutDevice(ctx context.Context, by string, d fsm.FenceDevice) error {
	if err := s.apply(ctx, &fsm.FenceDevicePut{Device: d, Time: s.Now().UnixNano()}); err != nil {
		return err
	}
	return s.event(ctx, fsm.Info, "fence.device_set", d.Host, fmt.Sprintf("%s set the power device %s (%s, order %d) of %s", by, d.Name, d.Type, d.Order, d.Host), "")
}

// RemoveDevice forgets a power device.
func (s Settings) RemoveDevice(ctx context.Context, by, host, name string) error {
	if err := s.apply(ctx, &fsm.FenceDeviceRemove{Host: host, Name: name, Time: s.Now().UnixNano()}); err != nil {
		return err
	}
	return s.event(ctx, fsm.Info, "fence.device_removed", host, fmt.Sprintf("%s removed the power device %s of %s", by, name, host), "")
}

func (s Settings) apply(ctx context.Context, cmd fsm.Command) error {
	out, err := s.Cluster.Apply(ctx, cmd)
	if err != nil {
		return err
	}
	return out.Err()
}

func (s Settings) event(ctx context.Context, severity, kind, host, message, reason string) error {
	return s.apply(ctx, &fsm.EventAdd{Events: []fsm.Event{{Time: s.Now().UnixNano(), Kind: kind, Severity: severity, Host: host, Subject: subjectOf(kind),
		Message: message, Reason: reason}}})
}
