package host

import (
	"context"
	"fmt"
	"strconv"

	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
)

// Keys of the cluster's configuration, behind "domain/" and the domain's id.
const (
	keyWarnPercent  = "/warn_percent"
	keyCriticalFree = "/critical_free"
)

func settingKey(domainID, key string) string { return "domain/" + domainID + key }

// DomainSettings are the settings of a domain in the mirror. What was never set, or cannot be read, is the default.
func DomainSettings(st *fsm.State, domainID string) spm.Settings {
	var s spm.Settings
	if text, ok := st.Config.Get(settingKey(domainID, keyWarnPercent)); ok {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 100 {
			s.WarnPercent = &n
		}
	}
	if text, ok := st.Config.Get(settingKey(domainID, keyCriticalFree)); ok {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
			s.CriticalFree = &n
		}
	}
	return s
}

// settings are those of a domain as this host's mirror has them.
func (rt *runtime) settings(domainID string) spm.Settings {
	return DomainSettings(rt.node.View(), domainID)
}

// SetDomain changes settings of a domain; nil fields stay as they are. It works on any host.
func (h *Host) SetDomain(ctx context.Context, domainID string, s spm.Settings) error {
	node := h.Node()
	if node == nil {
		return cluster.ErrNotMember
	}
	if s.WarnPercent != nil && (*s.WarnPercent < 0 || *s.WarnPercent > 100) {
		return fmt.Errorf("%w: a warning at %d %% of free space", fsm.ErrInvalid, *s.WarnPercent)
	}
	if s.CriticalFree != nil && *s.CriticalFree < 0 {
		return fmt.Errorf("%w: critical free space of %d bytes", fsm.ErrInvalid, *s.CriticalFree)
	}
	var changes []*fsm.ConfigSet
	if s.WarnPercent != nil {
		changes = append(changes, &fsm.ConfigSet{Key: settingKey(domainID, keyWarnPercent), Value: strconv.Itoa(*s.WarnPercent)})
	}
	if s.CriticalFree != nil {
		changes = append(changes, &fsm.ConfigSet{Key: settingKey(domainID, keyCriticalFree), Value: strconv.FormatInt(*s.CriticalFree, 10)})
	}
	for _, c := range changes {
		out, err := node.Apply(ctx, c)
		if err == nil {
			err = out.Err()
		}
		if err != nil {
			return fmt.Errorf("setting %s: %w", c.Key, err)
		}
		_, _ = node.WaitIndex(ctx, out.Index) // so that whoever asked here sees it here
	}
	return nil
}
