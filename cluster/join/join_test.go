package join

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
)

// oneHost is a cluster of one, without raft.
type oneHost struct{ fsm *fsm.FSM }

func (o *oneHost) Token(_ context.Context, id string) (fsm.Token, bool, error) {
	t, ok := o.fsm.View().Tokens.Get(id)
	return t, ok, nil
}

func (o *oneHost) Admit(_ context.Context, c *fsm.HostJoin) (fsm.Outcome, error) {
	out := o.apply(c)
	return out, out.Err()
}

func (o *oneHost) apply(c fsm.Command) fsm.Outcome {
	data, err := fsm.Encode(c, "")
	if err != nil {
		panic(err) // commands of this test are known to encode
	}
	return o.fsm.Apply(o.fsm.View().Index+1, data).(fsm.Outcome)
}

func (o *oneHost) Welcome() (Grant, error) {
	return Grant{ClusterID: "c", GossipKey: []byte("0123456789abcdef"), Peers: []Peer{{Name: "first"}}}, nil
}

// member runs a host that others can join through.
func member(t *testing.T) (address string, ca *CA, cluster *oneHost) {
	t.Helper()
	ca, err := NewCA("c", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cluster = &oneHost{fsm.New()}
	cluster.apply(&fsm.ClusterInit{ClusterID: "c", Version: 1, Host: fsm.Host{Name: "first"}})
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.HostCert(&key.PublicKey, "first", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, _ := KeyPEM(key)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		transport.CACertFile: ca.CertPEM(), transport.HostCertFile: cert, transport.HostKeyFile: keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certs, err := transport.LoadCerts(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s, err := transport.NewServer(transport.ServerConfig{Listen: "127.0.0.1:0", Certs: certs, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s.HandleJoin("POST "+Path, &Member{CA: ca, Cluster: cluster, Now: time.Now, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String(), ca, cluster
}

func newToken(t *testing.T, ca *CA, c *oneHost, expires int64) Token {
	t.Helper()
	tok, err := NewToken(ca.Hash())
	if err != nil {
		t.Fatal(err)
	}
	c.apply(&fsm.TokenCreate{Token: fsm.Token{ID: tok.ID, Role: fsm.TokenJoin, SecretHash: HashSecret(tok.Secret), Expires: expires}})
	return tok
}

func joiner(t *testing.T) *Joiner {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return &Joiner{Key: key}
}

func TestJoin_goodToken_andRetryWithTheSameKey(t *testing.T) {
	t.Parallel()
	address, ca, cluster := member(t)
	tok := newToken(t, ca, cluster, 0)
	j := joiner(t)
	for range 2 { // the second is a retry after a lost answer
		g, err := j.Join(context.Background(), address, tok, HostInfo{Name: "h2", Address: "10.0.0.2:1"})
		if err != nil {
			t.Fatal(err)
		}
		if g.HostID != 2 || g.ClusterID != "c" || len(g.Peers) != 1 || string(g.GossipKey) != "0123456789abcdef" {
			t.Errorf("grant %+v", g)
		}
	}
	if _, err := joiner(t).Join(context.Background(), address, tok, HostInfo{Name: "h2"}); !errors.Is(err, fsm.ErrTokenUsed) {
		t.Errorf("the token was good twice: %v", err)
	}
}

func TestJoin_refusals(t *testing.T) {
	t.Parallel()
	address, ca, cluster := member(t)
	otherCA, err := NewCA("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() Token { return newToken(t, ca, cluster, 0) }
	wrongSecret := fresh()
	wrongSecret.Secret = fresh().Secret
	wrongCA := fresh()
	wrongCA.CAHash = otherCA.Hash()
	unknown, err := NewToken(ca.Hash())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, host, address string
		tok                 Token
		want                error
	}{
		{"unknown token", "h2", address, unknown, fsm.ErrTokenUnknown},
		{"wrong secret", "h2", address, wrongSecret, fsm.ErrTokenUnknown},
		{"expired", "h2", address, newToken(t, ca, cluster, 1), fsm.ErrTokenExpired},
		{"another cluster's address", "h2", address, wrongCA, ErrWrongCluster},
		{"name taken", "first", address, fresh(), fsm.ErrExists},
		{"bad name", "Upper Case", address, fresh(), fsm.ErrInvalid},
		{"nobody there", "h2", "127.0.0.1:1", fresh(), transport.ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := joiner(t).Join(context.Background(), c.address, c.tok, HostInfo{Name: c.host})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestParseToken(t *testing.T) {
	t.Parallel()
	tok, err := NewToken(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseToken(" " + tok.String() + "\n"); err != nil || got != tok {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "a.b", tok.String() + ".x", tok.String()[1:], strings.Replace(tok.String(), ".", "..", 1)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrTokenMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if !SecretMatches(tok.Secret, HashSecret(tok.Secret)) || SecretMatches("x", HashSecret(tok.Secret)) {
		t.Error("SecretMatches")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("0123456789ab.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA." + strings.Repeat("00", 32))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := ParseToken(text)
		if err != nil {
			return
		}
		if again, err := ParseToken(tok.String()); err != nil || again != tok {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestParseCA_refusesForeignKey(t *testing.T) {
	t.Parallel()
	a, err := NewCA("a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewCA("b", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, _ := a.KeyPEM()
	if _, err := ParseCA(a.CertPEM(), key); err != nil {
		t.Error(err)
	}
	if _, err := ParseCA(b.CertPEM(), key); !errors.Is(err, ErrCA) {
		t.Errorf("got %v", err)
	}
}
