package domain

import "fmt"

// Severity tells how bad a Finding is.
type Severity string

// Severities, worst first.
const (
	SeverityError   Severity = "error"   // data or locks are in danger, or a volume cannot be used
	SeverityWarning Severity = "warning" // something is out of order but harms nothing yet
	SeverityNote    Severity = "note"    // normal leftovers
)

// Finding is one inconsistency of a domain.
type Finding struct {
	What     string   // what is wrong
	Where    string   // volume, special volume, slot, key
	Severity Severity // how bad
	Repair   string   // what to do about it
}

// String is one line for logs.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s (%s)", f.Severity, f.Where, f.What, f.Repair)
}
