package cluster

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast-io/holdfast/fsm"
)

func TestNextStep(t *testing.T) {
	t.Parallel()
	hosts := func(names ...string) (out []fsm.Host) {
		for _, n := range names {
			out = append(out, fsm.Host{Name: n, Address: n + ":1"})
		}
		return out
	}
	server := func(name string, s raft.ServerSuffrage) raft.Server {
		return raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name + ":1"), Suffrage: s}
	}
	voter := func(name string) raft.Server { return server(name, raft.Voter) }
	moved := voter("b")
	moved.Address = "old:1"
	ready := func(string) bool { return true }
	for _, c := range []struct {
		name    string
		hosts   []fsm.Host
		servers []raft.Server
		ready   func(string) bool
		want    step
	}{
		{"nothing known yet", nil, []raft.Server{voter("a")}, ready, step{}},
		{"in step", hosts("a", "b"), []raft.Server{voter("a"), voter("b")}, ready, step{}},
		{"a new host follows first", hosts("a", "b"), []raft.Server{voter("a")}, ready, step{stepAdd, "b", "b:1"}},
		{"then votes", hosts("a", "b"), []raft.Server{voter("a"), server("b", raft.Nonvoter)}, ready, step{stepPromote, "b", "b:1"}},
		{"but not before it has caught up", hosts("a", "b"), []raft.Server{voter("a"), server("b", raft.Nonvoter)},
			func(string) bool { return false }, step{}},
		{"enough voters", hosts("a", "b", "c", "d"), []raft.Server{voter("a"), voter("b"), voter("c"), server("d", raft.Nonvoter)}, ready, step{}},
		{"a voter left, the next one votes first", hosts("a", "b", "d"),
			[]raft.Server{voter("a"), voter("b"), server("d", raft.Nonvoter), voter("x")}, ready, step{stepRemove, "x", ""}},
		{"a moved host", hosts("a", "b"), []raft.Server{voter("a"), moved}, ready, step{stepAddress, "b", "b:1"}},
		{"a removed host", hosts("a"), []raft.Server{voter("a"), voter("b")}, ready, step{kind: stepRemove, name: "b"}},
		{"never itself", hosts("b"), []raft.Server{voter("a"), voter("b")}, ready, step{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := nextStep(c.hosts, c.servers, "a", 3, c.ready); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// From any start, the steps end, and end with one server for each host.
func TestNextStep_converges(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	for mask := range 1 << len(names) {
		var hosts []fsm.Host
		servers := []raft.Server{{ID: "a", Address: "a:1", Suffrage: raft.Voter}}
		for i, n := range names {
			if mask>>i&1 == 1 || n == "a" {
				hosts = append(hosts, fsm.Host{Name: n, Address: n + ":1"})
			} else {
				servers = append(servers, raft.Server{ID: raft.ServerID(n), Address: "x", Suffrage: raft.Voter})
			}
		}
		for range 50 {
			s := nextStep(hosts, servers, "a", 5, func(string) bool { return true })
			if s.kind == stepNone {
				break
			}
			servers = after(servers, s)
		}
		voters := 0
		for _, s := range servers {
			if s.Suffrage == raft.Voter {
				voters++
			}
		}
		if len(servers) != len(hosts) || voters != min(5, len(hosts)) {
			t.Fatalf("hosts %v: ended with %v", hosts, servers)
		}
	}
}

func after(servers []raft.Server, s step) []raft.Server {
	var out []raft.Server
	for _, o := range servers {
		if string(o.ID) != s.name {
			out = append(out, o)
		}
	}
	next := raft.Server{ID: raft.ServerID(s.name), Address: raft.ServerAddress(s.address)}
	switch s.kind {
	case stepRemove:
		return out
	case stepAdd:
		next.Suffrage = raft.Nonvoter
	}
	return append(out, next)
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	good := Config{Name: "a", DataDir: "/x", ClusterAddr: "10.0.0.1:1", GossipAddr: "10.0.0.1:2"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"name":            func(c *Config) { c.Name = "A b" },
		"no data dir":     func(c *Config) { c.DataDir = "" },
		"any address":     func(c *Config) { c.ClusterAddr = "0.0.0.0:1" },
		"no port":         func(c *Config) { c.ClusterAddr = "10.0.0.1" },
		"lease too long":  func(c *Config) { c.Raft.LeaderLease = 1 << 40 },
		"tags too long":   func(c *Config) { c.HTTPAddr = fmt.Sprintf("%0500d", 1) },
		"gossip anywhere": func(c *Config) { c.GossipAddr = ":1" },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
