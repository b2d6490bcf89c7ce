package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// One host's path to a domain hangs while others reach it: the host is non-operational, with the domain as the reason, and up again by
// itself when the path answers. The domain stays active.
func TestE2E_onePathHangs(t *testing.T) {
	l := serveLUN(t)
	p := newAgentPool(t, 3, newLUN(t, 64*gib), l.attach)
	spm := p.awaitSPM(t)
	a := p.other(spm.Host)
	var d api.DomainCreated
	mustJSON(t, a, &d, "domain", "create", "--name", "second", ownSocketLUN)
	awaitDomain(t, a, "second", "every host reaches it", func(d api.Domain) bool { return d.Status == api.DomainActive && len(d.FailingHosts) == 0 })
	one := p.third(spm.Host, a.conf.Name)
	l.Path(one.conf.Name).Hang()
	h := awaitState(t, a, one.conf.Name, api.HostNonOperational)
	if !strings.Contains(h.Reason, "second") {
		t.Errorf("%+v", h)
	}
	if d, _, err := a.Domain(deadline(t, 20*time.Second), "second", client.Read{}); err != nil || d.Status != api.DomainActive ||
		!slices.Equal(d.FailingHosts, []string{one.conf.Name}) {
		t.Errorf("%+v, %v", d, err)
	}
	createIn(t, a, "second", "meanwhile")
	l.Path(one.conf.Name).Release(true)
	awaitState(t, a, one.conf.Name, api.HostUp)
	awaitDomain(t, a, "second", "every host reaches it again", func(d api.Domain) bool { return d.Status == api.DomainActive && len(d.FailingHosts) == 0 })
}

// awaitState waits until a host is in a state, by the mirror of another one.
func awaitState(t *testing.T, a *testAgent, name, state string) api.Host {
	t.Helper()
	var h api.Host
	err := poll(deadline(t, 90*time.Second), name+" is "+state, func() (err error) {
		if h, _, err = a.Host(t.Context(), name, client.Read{}); err == nil && h.State != state {
			err = fmt.Errorf("it is %s: %s", h.State, h.Reason)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}
