package clusterlabs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
)

// pair is one line of an agent's input.
type pair struct{ key, value string }

// parameters are the agent's input under the names that it knows, in a stable order. Fields that the agent has no name for
// are left out; check complains about them.
func (c Config) parameters(m Metadata) []pair {
	var out []pair
	add := func(value string, names ...string) {
		if key := m.first(names...); value != "" && key != "" {
			out = append(out, pair{key, value})
		}
	}
	add(c.Address, "ip", "ipaddr")
	if c.Port != 0 {
		add(strconv.Itoa(c.Port), "ipport")
	}
	add(c.User, "username", "login")
	for _, k := range sortedKeys(c.Parameters) {
		out = append(out, pair{k, c.Parameters[k]})
	}
	if key := c.secretKey(m); key != "" && !c.Secret.Empty() {
		out = append(out, pair{key, c.Secret.Reveal()})
	}
	return out
}

// secretKey is the parameter that gets the secret.
func (c Config) secretKey(m Metadata) string {
	if c.SecretParameter != "" {
		return c.SecretParameter
	}
	return m.first("password", "passwd")
}

// input writes parameters as agents read them. They cut white space off the ends of a line and a pair of quotes off a value, so a
// value that has such ends gets a pair of its own.
func input(action string, params []pair) string {
	var b strings.Builder
	for _, p := range append([]pair{{"action", action}}, params...) {
		v := p.value
		if v != strings.TrimSpace(v) || len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
			v = `"` + v + `"`
		}
		b.WriteString(p.key + "=" + v + "\n")
	}
	return b.String()
}

// check compares the configuration with the agent's metadata: err has what cannot work, warnings what will not work for long.
func (c Config) check(m Metadata) (warnings []string, err error) {
	var problems []string
	for _, k := range sortedKeys(c.Parameters) {
		p, ok := m.parameter(k)
		switch {
		case !ok:
			problems = append(problems, fmt.Sprintf("%s does not know the parameter %s%s", c.Agent, k, m.similar(k)))
		case p.Deprecated:
			warnings = append(warnings, fmt.Sprintf("parameter %s is deprecated%s", k, m.successor(k)))
		}
		if why := p.badValue(c.Parameters[k]); ok && why != "" {
			problems = append(problems, fmt.Sprintf("parameter %s: %s", k, why))
		}
	}
	problems = append(problems, c.unplaced(m)...)
	problems = append(problems, c.lacking(m)...)
	if c.Parameters["lanplus"] != "" && m.first("cipher") != "" && c.Parameters["cipher"] == "" {
		warnings = append(warnings, "lanplus without cipher: each call may take 14 s longer, because ipmitool asks for the cipher suites first; set cipher=17 or cipher=3")
	}
	if len(problems) > 0 {
		return warnings, fmt.Errorf("%s: %w", strings.Join(problems, "; "), fencing.ErrConfig)
	}
	return warnings, nil
}

// unplaced lists fields that the agent has no parameter for.
func (c Config) unplaced(m Metadata) []string {
	var out []string
	for _, f := range []struct {
		what  string
		set   bool
		names []string
	}{
		{"an address", c.Address != "", []string{"ip", "ipaddr"}},
		{"a port", c.Port != 0, []string{"ipport"}},
		{"a user", c.User != "", []string{"username", "login"}},
		{"a secret", !c.Secret.Empty() && c.SecretParameter == "", []string{"password", "passwd"}},
		{"a parameter " + c.SecretParameter, c.SecretParameter != "", []string{c.SecretParameter}},
	} {
		if f.set && m.first(f.names...) == "" {
			out = append(out, fmt.Sprintf("%s takes no such thing as %s", c.Agent, f.what))
		}
	}
	return out
}

// lacking lists required parameters that are not given, under their old or their new name.
func (c Config) lacking(m Metadata) []string {
	var given []string
	for _, p := range c.parameters(m) {
		given = append(given, p.key)
	}
	var out []string
	for _, p := range m.Parameters {
		if !p.Required || p.Deprecated || p.Name == "action" {
			continue
		}
		if !slices.Contains(given, p.Name) && (p.Obsoletes == "" || !slices.Contains(given, p.Obsoletes)) {
			out = append(out, fmt.Sprintf("%s needs %s", c.Agent, p.Name))
		}
	}
	return out
}

// badValue says what is wrong with a value of this parameter.
func (p Parameter) badValue(v string) string {
	_, notNumber := strconv.ParseFloat(v, 64)
	switch {
	case p.Type == "integer" && notNumber != nil, p.Type == "second" && notNumber != nil:
		return fmt.Sprintf("%q is not a number", fencing.Clean(v, 40))
	case p.Type == "boolean" && !slices.Contains([]string{"1", "yes", "on", "true", "0", "no", "off", "false"}, strings.ToLower(v)):
		return fmt.Sprintf("%q is neither yes nor no", fencing.Clean(v, 40))
	case p.Type == "select" && len(p.Choices) > 0 && !slices.Contains(p.Choices, v):
		return fmt.Sprintf("%q is none of %s", fencing.Clean(v, 40), strings.Join(p.Choices, ", "))
	}
	return ""
}

// successor tells the new name of an old one.
func (m Metadata) successor(old string) string {
	for _, p := range m.Parameters {
		if p.Obsoletes == old {
			return ": use " + p.Name
		}
	}
	return ""
}

// similar tells of a known name that has this one in it, or the reverse.
func (m Metadata) similar(name string) string {
	for _, p := range m.Parameters {
		if !p.Deprecated && len(name) > 2 && (strings.Contains(p.Name, name) || strings.Contains(name, p.Name)) {
			return " (is it " + p.Name + "?)"
		}
	}
	return ""
}
