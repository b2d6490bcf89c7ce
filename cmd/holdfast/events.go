package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// eventFlags are the flags of events.
type eventFlags struct {
	follow bool
	query  client.EventQuery
}

func newEventsCommand(g *global) *cobra.Command {
	var f eventFlags
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened, or what happens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return g.events(cmd, f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.follow, "follow", "f", false, "stay and print new events, through whichever host answers; one JSON object a line with -o json")
	fl.StringVar(&f.query.After, "after", "", "only what came after this event, by its ID (default the newest events)")
	fl.IntVar(&f.query.Limit, "limit", 50, "how many at most; with --follow how many to begin with")
	fl.StringSliceVar(&f.query.Filter.Kinds, "kind", nil, "only events of this kind and those below it, such as fence or fence.done; may be repeated")
	fl.StringVar(&f.query.Filter.Host, "host", "", "only events about this host")
	fl.StringVar(&f.query.Filter.Severity, "severity", "", "only events of at least this severity: info, warning or error")
	return cmd
}

// check refuses what the agent would refuse.
func (f *eventFlags) check() error {
	if f.query.After != "" {
		if _, err := api.ParseEventID(f.query.After); err != nil {
			return usageError{err}
		}
	}
	switch f.query.Filter.Severity {
	case "", api.SeverityInfo, api.SeverityWarning, api.SeverityError:
	default:
		return usagef("--severity is info, warning or error, not %q", f.query.Filter.Severity)
	}
	if f.query.Limit < 1 || f.query.Limit > 1000 {
		return usagef("--limit is 1 to 1000, not %d", f.query.Limit)
	}
	return nil
}

func (g *global) events(cmd *cobra.Command, f eventFlags) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	var others []string
	if f.follow {
		if others, err = otherHosts(cmd.Context(), c); err != nil {
			return err
		}
	}
	if f.follow && f.query.After != "" {
		return g.followEvents(cmd, f.query, f.query.After, others)
	}
	l, mark, err := c.EventList(cmd.Context(), f.query, client.Read{})
	if err != nil {
		return err
	}
	if mark.Gap != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), gapText(api.EventGap{After: f.query.After, Oldest: mark.Gap}))
	}
	if !f.follow {
		return g.show(cmd, l, func() *table { return eventTable(l) })
	}
	after := strconv.FormatUint(mark.Index, 10)
	for i := range l {
		if err := g.printEvent(cmd, &l[i]); err != nil {
			return err
		}
		after = l[i].ID
	}
	return g.followEvents(cmd, f.query, after, others)
}

// otherHosts are the addresses of all hosts, so that following does not depend on the one that was asked any more.
func otherHosts(ctx context.Context, c *client.Client) (l []string, err error) {
	hosts, _, err := c.Hosts(ctx, client.Read{})
	for _, h := range hosts {
		if h.HTTP != "" {
			l = append(l, h.HTTP)
		}
	}
	return l, err
}

func eventTable(l []api.Event) *table {
	t := &table{head: []string{"ID", "TIME", "SEVERITY", "KIND", "HOST", "SUBJECT", "MESSAGE"}}
	for i := range l {
		e := &l[i]
		t.add(e.ID, stamp(e.Time), e.Severity, e.Kind, e.Host, e.Subject, eventText(e))
	}
	return t
}

// eventText is what an event says, with why and on what evidence.
func eventText(e *api.Event) string {
	s := e.Message
	if e.Reason != "" && !strings.Contains(s, e.Reason) {
		s += "; reason: " + e.Reason
	}
	if e.Evidence != "" && !strings.Contains(s, e.Evidence) {
		s += "; evidence: " + e.Evidence
	}
	return s
}

func gapText(g api.EventGap) string {
	return fmt.Sprintf("events after %s may be missing: the oldest that the pool keeps is %s", g.After, g.Oldest)
}

// followEvents prints events until the command is interrupted, which is no failure.
func (g *global) followEvents(cmd *cobra.Command, q client.EventQuery, after string, others []string) error {
	cfg, err := g.clientConfig()
	if err != nil {
		return err
	}
	n := &followNews{cmd: cmd}
	fw, err := client.NewFollower(client.FollowerConfig{Config: cfg, Others: others, Filter: q.Filter, After: after, Notify: n.tell})
	if err != nil {
		return err
	}
	return fw.Run(cmd.Context(), func(f client.Followed) error {
		if f.Gap != nil {
			return g.printGap(cmd, *f.Gap)
		}
		return g.printEvent(cmd, f.Event)
	})
}

// followNews tells a person when events begin to come through another host.
type followNews struct {
	cmd  *cobra.Command
	lost bool
}

func (n *followNews) tell(address string, err error) {
	w := n.cmd.ErrOrStderr()
	switch {
	case err != nil && !n.lost:
		n.lost = true
		fmt.Fprintf(w, "events through %s: %s; asking the other hosts\n", address, printable(err.Error()))
	case err == nil && n.lost:
		n.lost = false
		fmt.Fprintf(w, "events come through %s now; none is lost\n", address)
	}
}

// printGap tells that events may be missing: programs in the stream, people beside it.
func (g *global) printGap(cmd *cobra.Command, gap api.EventGap) error {
	if g.output == "json" {
		return writeLine(cmd.OutOrStdout(), map[string]api.EventGap{"gap": gap})
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), gapText(gap))
	return err
}

func (g *global) printEvent(cmd *cobra.Command, e *api.Event) error {
	w := cmd.OutOrStdout()
	if g.output == "json" {
		return writeLine(w, e)
	}
	_, err := fmt.Fprintln(w, e.ID, stamp(e.Time), e.Severity, printable(e.Kind), printable(e.Host), printable(e.Subject), printable(eventText(e)))
	return err
}
