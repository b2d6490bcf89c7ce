package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

func newMailboxCommand(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "mailbox", Short: "The storage mailbox, by which hosts ask for space without a network"}
	cmd.AddCommand(newMailboxShowCommand(g))
	return cmd
}

func newMailboxShowCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show what hosts and SPM say to each other in the mailbox, as it is on the storage", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			m, err := c.Mailbox(cmd.Context())
			if err != nil {
				return err
			}
			return g.show(cmd, m, func() *table { return mailboxTable(m) })
		},
	}
}

func mailboxTable(m api.Mailbox) *table {
	t := &table{head: []string{"HOST", "ID", "SLOT", "PHASE", "HOST SAYS", "SPM SAYS", "VOLUME"}}
	for _, h := range m.Hosts {
		if h.Error != "" {
			t.add(h.Host, fmt.Sprint(h.HostID), "", api.SlotUnreadable, h.Error, "", "")
		}
		for _, s := range h.Slots {
			t.add(h.Host, fmt.Sprint(h.HostID), fmt.Sprint(s.Slot), s.Phase, mailboxSaid(s.Host), mailboxSaid(s.SPM), s.Volume)
		}
	}
	return t
}

// mailboxSaid is what one side says, in a few words.
func mailboxSaid(s api.MailboxSide) string {
	switch {
	case s.Error != "":
		return s.Error
	case s.State == api.SlotMessage:
		return formatSize(s.Size)
	}
	return s.State
}
