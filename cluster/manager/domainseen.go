package manager

import "time"

// domainSeen is what this term has heard from one host about one domain.
type domainSeen struct {
	report    DomainReport
	lookedAt  time.Time // when the look ended that the report is about
	badSince  time.Time // zero: it is valid, or nothing is known
	goodLooks int       // valid ones in a row
}

// take notes a report that came at now. Only a look that is new says something; a monitor that was started anew counts from the
// beginning, with what it says first.
func (d domainSeen) take(r DomainReport, now time.Time) domainSeen {
	fresh := r.Looks != d.report.Looks
	d.report = r
	if r.Code == DomainUnread || r.Looks == 0 {
		return domainSeen{report: r}
	}
	if !fresh {
		return d
	}
	d.lookedAt = now.Add(-r.Age)
	if r.Valid() {
		d.badSince = time.Time{}
		d.goodLooks++
		return d
	}
	d.goodLooks = 0
	if d.badSince.IsZero() {
		d.badSince = now
	}
	return d
}

// domainsHeard is the same for all domains that a host reports, as of its last answer. Domains that it does not report any more
// are forgotten.
func domainsHeard(old map[string]domainSeen, reports []DomainReport, now time.Time) map[string]domainSeen {
	next := make(map[string]domainSeen, len(reports))
	for _, r := range reports {
		next[r.Domain] = old[r.Domain].take(r, now)
	}
	return next
}
