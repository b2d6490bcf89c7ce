package manager

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
)

// domainsOf makes a term that has heard so many hosts about so many domains.
func domainsOf(tb testing.TB, hosts, domains int) (*term, *fsm.State) {
	tb.Helper()
	f, index := fsm.New(), uint64(0)
	apply := func(cmd fsm.Command) {
		b, err := fsm.Encode(cmd, "")
		if err != nil {
			tb.Fatal(err)
		}
		index++
		if out := f.Apply(index, b).(fsm.Outcome); out.Err() != nil {
			tb.Fatal(out.Err())
		}
	}
	m, err := New(Config{Host: "h000", Cluster: still{f}, Policy: DefaultPolicy("fast"),
		Limits: func(*fsm.State, fsm.Domain) SpaceLimits { return SpaceLimits{Warn: 10, Critical: 5} }})
	if err != nil {
		tb.Fatal(err)
	}
	t := newTerm(m, tb.Context())
	var reports []DomainReport
	for i := range domains {
		id := fmt.Sprintf("dom-%03d", i)
		reports = append(reports, DomainReport{Domain: id, Code: DomainOK, Looks: 7, Acquired: true, MetadataSize: 100, MetadataUsed: 1})
		apply(&fsm.DomainPut{Domain: fsm.Domain{ID: id, Name: id, Size: 1000, Free: 900}})
	}
	for i := range hosts {
		h := fsm.Host{Name: fmt.Sprintf("h%03d", i), State: fsm.HostUp, KeyHash: fmt.Sprint(i)}
		if i == 0 {
			apply(&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: h})
		} else {
			apply(&fsm.TokenCreate{Token: fsm.Token{ID: h.Name, Role: fsm.TokenJoin, SecretHash: h.Name}})
			apply(&fsm.HostJoin{Host: h, TokenID: h.Name})
		}
		state := fsm.HostUp
		apply(&fsm.HostUpdate{Name: h.Name, State: &state})
		s := &sighting{name: h.Name, reachable: true}
		s.heard(&PingReply{Domains: reports, DomainsSeq: 7}, time.Now())
		t.hosts[h.Name] = s
	}
	return t, f.View()
}

// still is a cluster in which nothing happens.
type still struct{ f *fsm.FSM }

func (s still) Apply(context.Context, fsm.Command) (fsm.Outcome, error) { return fsm.Outcome{}, nil }
func (s still) View() *fsm.State                                        { return s.f.View() }
func (s still) Changed() <-chan struct{}                                { return s.f.Changed() }
func (s still) Call(ctx context.Context, _, _ string, _, _ any) error   { <-ctx.Done(); return ctx.Err() }

// What a step costs the leader, by hosts: it grows with them and not faster.
func BenchmarkLookAfterDomains(b *testing.B) {
	for _, hosts := range []int{3, 50, 200} {
		b.Run(fmt.Sprintf("%d_hosts_10_domains", hosts), func(b *testing.B) {
			t, view := domainsOf(b, hosts, 10)
			b.ReportAllocs()
			for b.Loop() {
				t.lookAfterDomains(view)
			}
		})
	}
}

// The term's picture of who misses what: by what hosts say, while they answer.
func TestTerm_storageTrouble(t *testing.T) {
	t.Parallel()
	tm, view := domainsOf(t, 3, 2)
	if got := tm.storageTrouble(view); len(got) != 0 {
		t.Errorf("all is well: %+v", got)
	}
	s := tm.hosts["h001"]
	s.heard(&PingReply{DomainsSeq: 8, Domains: []DomainReport{{Domain: "dom-000", Code: DomainOK, Looks: 8}, {Domain: "dom-001", Code: DomainHung, Looks: 8}}}, time.Now().Add(-16*time.Second))
	got := tm.storageTrouble(view)
	if tr, ok := got["h001"]; len(got) != 1 || !ok || !tr.Over || len(tr.Domains) != 1 || tr.Domains[0] != "dom-001" || tr.For < 15*time.Second {
		t.Errorf("%+v", got)
	}
	s.reachable = false
	if got := tm.storageTrouble(view); len(got) != 0 {
		t.Errorf("of a host that does not answer nothing is known: %+v", got)
	}
}
