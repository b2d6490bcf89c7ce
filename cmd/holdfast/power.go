package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newPowerCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "power", Short: "The power of hosts, and the devices that switch it"}
	cmd.AddCommand(newPowerAddCommand(g), newPowerRemoveCommand(g), newPowerListCommand(g), newPowerStatusCommand(g), newPowerTestCommand(g))
	for action, short := range map[string]string{
		api.PowerOff:     "Switch a host off, with a proof that it can no longer write; it stays off",
		api.PowerOn:      "Switch a host on",
		api.PowerRestart: "Switch a host off, with a proof, and on again",
	} {
		cmd.AddCommand(newPowerOrderCommand(g, action+" NAME", action, short))
	}
	return cmd
}

// maxSecretLine bounds a secret that is read from a file or a pipe.
const maxSecretLine = 1024

// readSecret takes the first line of a file, or of in when stdin is set. A secret in the arguments could be read by everybody.
func readSecret(in io.Reader, file string, stdin bool) (string, error) {
	switch {
	case file != "" && stdin:
		return "", usagef("give --secret-file or --secret-stdin, not both")
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("reading the secret: %w", err)
		}
		defer f.Close()
		in = f
	case !stdin:
		return "", nil
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxSecretLine+1)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the secret: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" || len(line) > maxSecretLine {
		return "", usagef("the secret is its first line, of 1 to %d bytes", maxSecretLine)
	}
	return line, nil
}

// keyValues reads key=value pairs.
func keyValues(pairs []string) (map[string]string, error) {
	var out map[string]string
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("%q is not of the form key=value", p)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out, nil
}

func newPowerAddCommand(g *global) *cobra.Command {
	var req api.PowerDeviceSet
	var device, file string
	var stdin bool
	var options []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a power device to a host, or replace the one of that name",
		Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Secret, err = readSecret(cmd.InOrStdin(), file, stdin); err != nil {
				return err
			}
			if req.Options, err = keyValues(options); err != nil {
				return err
			}
			if device == "" {
				device = req.Type
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			d, err := c.SetPowerDevice(cmd.Context(), args[0], device, req)
			if err != nil {
				return err
			}
			return g.show(cmd, d, func() *table { return powerDeviceTable([]api.PowerDevice{d}) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Type, "type", "", "ipmi, redfish, exec, process or none (required)")
	f.StringVar(&device, "device", "", "the device's name; its type if not given")
	f.IntVar(&req.Order, "order", 0, "lower ones are tried first; those of one order are used as one")
	f.StringVar(&req.Address, "device-address", "", "where the device listens")
	f.IntVar(&req.Port, "port", 0, "its port; 0 is the type's own")
	f.StringVar(&req.User, "user", "", "who logs in")
	f.StringVar(&file, "secret-file", "", "file whose first line is the password; it is sealed and never shown")
	f.BoolVar(&stdin, "secret-stdin", false, "read the password from standard input")
	f.StringArrayVar(&options, "option", nil, "an option of the type, as key=value; may be repeated")
	f.StringSliceVar(&req.Proxies, "through", nil, "hosts to act through, the most wanted first; any if not given")
	f.BoolVar(&req.Disabled, "disabled", false, "keep it without using it, nor the others of its order: the host may run on by this one")
	_ = cmd.MarkFlagRequired("type")
	return cmd
}

func newPowerRemoveCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME DEVICE", Short: "Forget a power device of a host", Args: cobra.ExactArgs(2), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return c.RemovePowerDevice(cmd.Context(), args[0], args[1])
		},
	}
}

func newPowerListCommand(g *global) *cobra.Command {
	var consistent bool
	cmd := &cobra.Command{
		Use: "list NAME", Short: "List the power devices of a host", Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _, err := c.PowerDevices(cmd.Context(), args[0], client.Read{Consistent: consistent})
			if err != nil {
				return err
			}
			return g.show(cmd, l, func() *table { return powerDeviceTable(l) })
		},
	}
	consistentFlag(cmd, &consistent)
	return cmd
}

func powerDeviceTable(l []api.PowerDevice) *table {
	t := &table{head: []string{"DEVICE", "TYPE", "ORDER", "ADDRESS", "USER", "SECRET", "OPTIONS", "THROUGH", "USED"}}
	for _, d := range l {
		address := d.Address
		if d.Port != 0 {
			address = fmt.Sprintf("%s port %d", address, d.Port)
		}
		var options []string
		for _, k := range slices.Sorted(maps.Keys(d.Options)) {
			options = append(options, k+"="+d.Options[k])
		}
		secret := "none"
		if d.HasSecret {
			secret = "sealed"
		}
		t.add(d.Name, d.Type, fmt.Sprint(d.Order), address, d.User, secret, strings.Join(options, " "), strings.Join(d.Proxies, ","), yes(!d.Disabled))
	}
	return t
}

func newPowerStatusCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "status NAME", Short: "Ask the power devices of a host whether it is on", Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			st, err := c.PowerStatus(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return g.show(cmd, st, func() *table {
				t := &table{head: []string{"HOST", "POWER", "DEVICES", "ORDER", "THROUGH", "WHY NOT"}}
				for _, p := range st.Groups {
					t.add(st.Host, p.State, p.Devices, fmt.Sprint(p.Order), p.Through, p.Error)
				}
				return t
			})
		},
	}
}

func newPowerTestCommand(g *global) *cobra.Command {
	var through string
	cmd := &cobra.Command{
		Use: "test NAME", Short: "Look which power actions would work on a host now; nothing is switched",
		Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			h, err := c.PowerHealth(cmd.Context(), args[0], through)
			if err != nil {
				return err
			}
			if err := g.show(cmd, h, func() *table { return powerHealthTable(h) }); err != nil {
				return err
			}
			if !h.OffWorks || !h.OnWorks {
				return errQuiet
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&through, "through", "", "the host that is to look; the one that would act if not given")
	return cmd
}

func powerHealthTable(h api.PowerHealth) *table {
	t := &table{head: []string{"DEVICE", "ORDER", "POWER", "WORKS", "TOOK", "WHY NOT"}}
	for _, d := range h.Devices {
		t.add(d.Name, fmt.Sprint(d.Order), d.State, yes(d.Works), time.Duration(d.Took*float64(time.Second)).Round(time.Millisecond).String(), d.Error)
	}
	t.add("(off)", "", "", yes(h.OffWorks), "", "through "+h.Through)
	t.add("(on)", "", "", yes(h.OnWorks), "", "through "+h.Through)
	return t
}

func newHostFenceCommand(g *global) *cobra.Command {
	cmd := newPowerOrderCommand(g, "fence NAME", api.PowerFence, "Switch a host off that does not answer, as a proof that it can no longer write, and on again if the policy says so")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// newPowerOrderCommand makes a verb that acts on the power of a host.
func newPowerOrderCommand(g *global, use, action, short string) *cobra.Command {
	req := api.PowerOrder{Action: action}
	var wait time.Duration
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: g.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			op, err := c.PowerOrder(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			if op, err = awaitOrder(cmd.Context(), c, op, wait); err != nil {
				return err
			}
			if err := g.show(cmd, op, func() *table { return fenceStepTable(op) }); err != nil {
				return err
			}
			return endOfOrder(op)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the pool's history")
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for the end of what takes longer than one request")
	if action != api.PowerOn {
		cmd.Flags().BoolVar(&req.Force, "force", false, "although the host answers, renews its leases or was acted on a short time ago; what runs there ends")
	}
	return cmd
}

// orderPoll is the time between two looks at an operation that takes long.
const orderPoll = time.Second

// awaitOrder follows an operation that has not ended within the request; one that does not end in time is returned as it is.
func awaitOrder(ctx context.Context, c *client.Client, op api.FenceOp, wait time.Duration) (api.FenceOp, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(orderPoll)
	defer tick.Stop()
	for op.Outcome == "" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return op, nil
		}
		l, _, err := c.FenceHistory(ctx, op.Host, 0, client.Read{})
		if err != nil && ctx.Err() == nil {
			return op, fmt.Errorf("operation %s on %s goes on, but following it failed: %w", op.ID, op.Host, err)
		}
		if i := slices.IndexFunc(l, func(o api.FenceOp) bool { return o.ID == op.ID }); i >= 0 {
			op = l[i]
		}
	}
	return op, nil
}

// endOfOrder makes the exit status of what came of an operation.
func endOfOrder(op api.FenceOp) error {
	switch op.Outcome {
	case "done":
		return nil
	case "":
		return api.Errorf(api.CodeOutcomeUnknown, "holdfast fencing history --host "+op.Host, "operation %s on %s is still under way", op.ID, op.Host)
	}
	return api.Errorf(api.CodeConflict, "holdfast fencing history --host "+op.Host, "operation %s on %s is %s: %s", op.ID, op.Host, op.Outcome, op.Detail)
}

func fenceStepTable(op api.FenceOp) *table {
	t := &table{head: []string{"TIME", "STEP", "RESULT", "DEVICES", "THROUGH", "LEADER", "TERM", "EVIDENCE"}}
	for _, s := range op.Steps {
		t.add(stamp(s.Time), s.Rung, s.Result, s.Device, s.Through, s.Leader, fmt.Sprint(s.Term), s.Evidence)
	}
	return t
}
