package fencing

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// redacted is what a secret prints as.
const redacted = "***"

// Secret is a password that does not print: not with any verb of fmt, not as JSON, not in a log. Reveal is the one way to it.
type Secret struct {
	value *string // a pointer, because fmt calls no methods of fields that are not exported: it prints an address then
}

// NewSecret keeps value.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal returns the password, for the one place that sends it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is none.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Redact replaces the password in a text from outside: an agent's output, a device's error.
func (s Secret) Redact(text string) string {
	if len(s.Reveal()) < 3 { // too short to be told from ordinary text; nobody's password, one hopes
		return text
	}
	return strings.ReplaceAll(text, s.Reveal(), redacted)
}

// String hides the password.
func (s Secret) String() string {
	if s.Empty() {
		return ""
	}
	return redacted
}

// Format hides it from every verb of fmt, those for numbers too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// GoString hides it from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalJSON hides it from JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads one that a person wrote.
func (s *Secret) UnmarshalJSON(b []byte) error {
	s.value = new(string)
	return json.Unmarshal(b, s.value)
}

// MarshalText hides it from encoders of text, among them map keys and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides it from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
