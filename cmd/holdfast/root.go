package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/client"
)

// global holds the flags that every verb shares.
type global struct {
	address string
	output  string
	token   string
	ca      string
	cert    string
	key     string
	timeout time.Duration
}

func newRootCommand() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Storage pools on shared LUNs for KVM hosts, without a manager machine",
		Long: `Holdfast manages a pool of thin volumes on SAN LUNs that many KVM hosts share. The hosts form a cluster; exactly one of
them at a time, the SPM, may change the pool, and the right to do so is a lease on the storage itself.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 the outcome is unknown: look before trying again.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	g.flags(root)
	root.AddCommand(
		newAgentCommand(), newKeeperCommand(), newExportCommand(), newDeviceCommand(), newDevCommand(), newDemoCommand(), newBenchCommand(), newVersionCommand(g),
		newInitCommand(g), newJoinCommand(g), newLeaveCommand(g), newStatusCommand(g),
		newHostCommand(g), newDomainCommand(g), newVolumeCommand(g), newImageCommand(g), newSPMCommand(g), newMailboxCommand(g), newLeaseCommand(g),
		newEventsCommand(g), newOperatorCommand(g), newSanlockCommand(), newNemesisCommand(g),
	)
	strict(root)
	return root
}

func (g *global) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&g.address, "address", "", "any host: http://, https:// or unix:// (default $HOLDFAST_ADDR, else "+client.DefaultAddress+")")
	f.StringVarP(&g.output, "output", "o", "table", "table or json")
	f.StringVar(&g.token, "token-file", "", "file with a bearer token (default the token in $HOLDFAST_TOKEN)")
	f.StringVar(&g.ca, "ca", "", "PEM file with the cluster's CA, for https (default $HOLDFAST_CA)")
	f.StringVar(&g.cert, "cert", "", "PEM file with a client certificate (default $HOLDFAST_CERT)")
	f.StringVar(&g.key, "key", "", "PEM file with the key of --cert (default $HOLDFAST_KEY)")
	f.DurationVar(&g.timeout, "timeout", 90*time.Second, "how long to wait for an answer")
}

// strict turns complaints about arguments into usage errors, and makes a noun without a verb one.
func strict(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
		cmd.RunE = missingVerb
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

func missingVerb(c *cobra.Command, args []string) error {
	var verbs []string
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() {
			verbs = append(verbs, s.Name())
		}
	}
	if len(args) > 0 {
		return usagef("%s has no verb %q, but %s", c.CommandPath(), args[0], strings.Join(verbs, ", "))
	}
	return usagef("%s needs a verb: %s", c.CommandPath(), strings.Join(verbs, ", "))
}

// client connects as the flags and the environment say.
func (g *global) client() (*client.Client, error) {
	cfg, err := g.clientConfig()
	if err != nil {
		return nil, err
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// clientConfig says how to connect.
func (g *global) clientConfig() (client.Config, error) {
	cfg := client.Config{
		Address: cmp.Or(g.address, os.Getenv("HOLDFAST_ADDR")), Token: os.Getenv("HOLDFAST_TOKEN"), Timeout: g.timeout,
	}
	if err := g.checkOutput(); err != nil {
		return cfg, err
	}
	if g.token != "" {
		b, err := os.ReadFile(g.token)
		if err != nil {
			return cfg, usageError{fmt.Errorf("reading the token: %w", err)}
		}
		cfg.Token = strings.TrimSpace(string(b))
	}
	var err error
	if cfg.TLS, err = g.tls(); err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

func (g *global) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca := cmp.Or(g.ca, os.Getenv("HOLDFAST_CA")); ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("reading the CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("reading the CA: %s holds no certificate", ca)
		}
	}
	cert, key := cmp.Or(g.cert, os.Getenv("HOLDFAST_CERT")), cmp.Or(g.key, os.Getenv("HOLDFAST_KEY"))
	if cert == "" && key == "" {
		return cfg, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("reading the client certificate: %w", err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

func (g *global) checkOutput() error {
	if g.output != "table" && g.output != "json" {
		return usagef("--output is table or json, not %q", g.output)
	}
	return nil
}
