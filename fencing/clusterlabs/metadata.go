package clusterlabs

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
)

const (
	maxMetadata   = 512 << 10 // bytes; real ones have up to 20 KiB
	maxParameters = 1000
)

// Metadata is what an agent says of itself.
type Metadata struct {
	Name       string
	Parameters []Parameter
	Actions    []string
}

// Parameter is one that the agent knows.
type Parameter struct {
	Name       string
	Required   bool
	Deprecated bool
	Obsoletes  string   // the older name of the same
	Type       string   // string, integer, second, boolean, select
	Choices    []string // of a select
}

// xmlMetadata is the document as agents print it.
type xmlMetadata struct {
	XMLName    xml.Name `xml:"resource-agent"`
	Name       string   `xml:"name,attr"`
	Parameters []struct {
		Name       string `xml:"name,attr"`
		Required   string `xml:"required,attr"`
		Deprecated string `xml:"deprecated,attr"`
		Obsoletes  string `xml:"obsoletes,attr"`
		Content    struct {
			Type    string `xml:"type,attr"`
			Options []struct {
				Value string `xml:"value,attr"`
			} `xml:"option"`
		} `xml:"content"`
	} `xml:"parameters>parameter"`
	Actions []struct {
		Name string `xml:"name,attr"`
	} `xml:"actions>action"`
}

// parseMetadata decodes what an agent printed.
func parseMetadata(text string) (Metadata, error) {
	if len(text) > maxMetadata {
		return Metadata{}, fmt.Errorf("%d bytes of metadata: %w", len(text), fencing.ErrGarbage)
	}
	var x xmlMetadata
	if err := xml.Unmarshal([]byte(text), &x); err != nil {
		return Metadata{}, fmt.Errorf("reading the agent's metadata: %v: %w", err, fencing.ErrGarbage)
	}
	if len(x.Parameters) == 0 || len(x.Parameters) > maxParameters || len(x.Actions) == 0 || len(x.Actions) > maxParameters {
		return Metadata{}, fmt.Errorf("the agent's metadata have %d parameters and %d actions: %w", len(x.Parameters), len(x.Actions), fencing.ErrGarbage)
	}
	m := Metadata{Name: fencing.Clean(x.Name, 100)}
	for _, p := range x.Parameters {
		par := Parameter{
			Name: normal(p.Name), Required: p.Required == "1", Deprecated: p.Deprecated == "1",
			Obsoletes: normal(p.Obsoletes), Type: p.Content.Type,
		}
		for _, o := range p.Content.Options {
			par.Choices = append(par.Choices, o.Value)
		}
		m.add(par)
	}
	for _, a := range x.Actions {
		m.Actions = append(m.Actions, a.Name)
	}
	return m, nil
}

// add adds a parameter. Names that differ in a dash alone are one to the agent, and what is deprecated is then the spelling.
func (m *Metadata) add(p Parameter) {
	i := slices.IndexFunc(m.Parameters, func(old Parameter) bool { return old.Name == p.Name })
	if i < 0 {
		m.Parameters = append(m.Parameters, p)
		return
	}
	old := m.Parameters[i]
	if old.Deprecated && !p.Deprecated {
		m.Parameters[i] = p
	}
	m.Parameters[i].Required = old.Required || p.Required
}

// normal is a parameter's name with underscores: agents take both.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// parameter finds one by its name.
func (m Metadata) parameter(name string) (Parameter, bool) {
	i := slices.IndexFunc(m.Parameters, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return Parameter{}, false
	}
	return m.Parameters[i], true
}

// first returns the first name that the agent knows, or "".
func (m Metadata) first(names ...string) string {
	for _, name := range names {
		if _, ok := m.parameter(name); ok {
			return name
		}
	}
	return ""
}

// can reports whether the agent has an action.
func (m Metadata) can(action string) bool { return slices.Contains(m.Actions, action) }

// switchesPower refuses agents that cut a port of a network or a fabric: they have no reboot. What such an agent calls off leaves
// the machine running, with its memory full of writes.
func (m Metadata) switchesPower() error {
	for _, a := range []string{"on", "off", "status", "reboot"} {
		if !m.can(a) {
			return fmt.Errorf("the agent has no action %s, so it does not switch power and could prove nothing: %w", a, fencing.ErrConfig)
		}
	}
	return nil
}
