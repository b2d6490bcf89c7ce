package check

import (
	"fmt"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// MailboxFile is what hosts and SPM said to each other in the end: api.Mailbox.
const MailboxFile = "mailbox.json"

// Mailbox judges that every request in the mailbox was brought to its end: no slot has a message any more.
func Mailbox(r Record) history.Verdict {
	const name = "mailbox"
	var m api.Mailbox
	if err := readJSON(r.Folder, MailboxFile, &m); err != nil {
		return failed(name, err)
	}
	var f findings
	if m.Domain != r.Run.Domain {
		f.add("the mailbox is of domain %q, and the run's is %q", m.Domain, r.Run.Domain)
	}
	for _, s := range Unanswered(m) {
		f.add("%s", s)
	}
	rung := "nobody ever rang"
	if m.Event != "" {
		rung = "last ring " + m.Event
	}
	return f.verdict(name, "%d pages were in use or damaged at the end; %s", len(m.Hosts), rung)
}

// Unanswered are the slots in which something is still to be done, and pages that cannot be read.
func Unanswered(m api.Mailbox) (all []string) {
	for _, h := range m.Hosts {
		if h.Error != "" {
			all = append(all, fmt.Sprintf("the page of host id %d (%s): %s", h.HostID, h.Host, h.Error))
		}
		for _, s := range h.Slots {
			if over(s.Host) && over(s.SPM) {
				continue
			}
			all = append(all, fmt.Sprintf("host id %d (%s), slot %d, volume %s: the host says %s, the SPM %s (%s)",
				h.HostID, h.Host, s.Slot, s.Volume, s.Host.State, s.SPM.State, s.Phase))
		}
	}
	return all
}

func over(s api.MailboxSide) bool { return s.State == api.SlotEmpty || s.State == api.SlotClean }
