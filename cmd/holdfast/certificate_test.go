package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/transport"
)

func TestSignClient(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	ca, err := join.NewCA("cluster", now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{transport.CACertFile: ca.CertPEM(), transport.CAKeyFile: key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := signClient(dir, "alice", "read", filepath.Join(dir, "alice"), now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.CertPEM()) {
		t.Fatal("no CA certificate")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the cluster would not believe it: %v", err)
	}
	if s := pair.Leaf.Subject; s.CommonName != "alice" || len(s.OrganizationalUnit) != 1 || s.OrganizationalUnit[0] != "read" {
		t.Errorf("subject %v", s)
	}
	if !pair.Leaf.NotAfter.Equal(c.Expires.Truncate(time.Second)) {
		t.Errorf("expires %v, told %v", pair.Leaf.NotAfter, c.Expires)
	}
	if st, err := os.Stat(c.Key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", st.Mode(), err)
	}
	if _, err := signClient(dir, "alice", "read", filepath.Join(dir, "alice"), now); err == nil {
		t.Error("overwrote a key")
	}
	if _, err := signClient(dir, "mallory", "host", filepath.Join(dir, "mallory"), now); err == nil {
		t.Error("signed a certificate that would pass for a host's")
	}
	if _, err := signClient(t.TempDir(), "bob", "read", filepath.Join(dir, "bob"), now); err == nil {
		t.Error("signed without a CA")
	}
}
