package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/internal/config"
)

func newCertificateCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "certificate", Short: "Client certificates for the API"}
	cmd.AddCommand(newCertificateCreateCommand(g))
	return cmd
}

// clientCertificate is what `operator certificate create` made.
type clientCertificate struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Cert    string    `json:"cert"`
	Key     string    `json:"key"`
	CA      string    `json:"ca"`
	Expires time.Time `json:"expires"`
}

func newCertificateCreateCommand(g *global) *cobra.Command {
	var name, role, dataDir, out string
	cmd := &cobra.Command{
		Use: "create", Short: "Sign a client certificate with the cluster's CA, on a member, as root", Args: cobra.NoArgs,
		Long: `Sign a client certificate for the API with the cluster's CA. It runs on a member and asks nobody: whoever can read the
CA's key in the data directory may. Nothing can take a certificate back before it expires; a token can be revoked.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if role != api.RoleAdmin && role != api.RoleRead {
				return usagef("--role must be admin or read, not %q", role)
			}
			c, err := signClient(filepath.Join(dataDir, "cluster"), name, role, out, time.Now())
			if err != nil {
				return err
			}
			return g.show(cmd, c, func() *table {
				return fields("NAME", c.Name, "ROLE", c.Role, "CERT", c.Cert, "KEY", c.Key, "CA", c.CA, "EXPIRES", stamp(c.Expires))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "who it is for, as logs show it (required)")
	f.StringVar(&role, "role", api.RoleRead, "admin or read")
	f.StringVar(&dataDir, "data-dir", config.Default().DataDir, "data directory of this host's agent")
	f.StringVar(&out, "out", "client", "path of the files to make, without .crt and .key")
	_ = cmd.MarkFlagRequired("name") // fails only for a flag that does not exist
	return cmd
}

// signClient makes a key and has it signed. Files that exist are not overwritten.
func signClient(dir, name, role, out string, now time.Time) (clientCertificate, error) {
	caCert, err := os.ReadFile(filepath.Join(dir, transport.CACertFile))
	if err != nil {
		return clientCertificate{}, fmt.Errorf("reading the cluster's CA: %w; run this on a member, as root", err)
	}
	caKey, err := os.ReadFile(filepath.Join(dir, transport.CAKeyFile))
	if err != nil {
		return clientCertificate{}, fmt.Errorf("reading the key of the cluster's CA: %w; run this on a member, as root", err)
	}
	ca, err := join.ParseCA(caCert, caKey)
	if err != nil {
		return clientCertificate{}, err
	}
	key, err := join.NewKey()
	if err != nil {
		return clientCertificate{}, err
	}
	cert, err := ca.ClientCert(&key.PublicKey, name, role, now)
	if err != nil {
		return clientCertificate{}, err
	}
	keyPEM, err := join.KeyPEM(key)
	if err != nil {
		return clientCertificate{}, err
	}
	c := clientCertificate{Name: name, Role: role, Cert: out + ".crt", Key: out + ".key", CA: out + "-ca.crt", Expires: now.Add(join.CertLife).UTC()}
	return c, errors.Join(writeNew(c.Key, keyPEM, 0o600), writeNew(c.Cert, cert, 0o644), writeNew(c.CA, caCert, 0o644))
}

// writeNew writes a file that must not exist.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
