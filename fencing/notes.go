package fencing

import (
	"context"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxNote bounds what is kept of one call: notes, output, error text.
const MaxNote = 2 << 10

// notes are what the devices told during one call.
type notes struct {
	mu   sync.Mutex // guards text: a call may have goroutines
	text strings.Builder
}

type notesKey struct{}

// withNotes returns a context whose Notes go to n.
func withNotes(ctx context.Context, n *notes) context.Context {
	return context.WithValue(ctx, notesKey{}, n)
}

// Note tells what was seen during a call, as evidence for the record. Without a listener it is lost, which is no harm.
func Note(ctx context.Context, text string) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.text.Len() > 0 {
		n.text.WriteString("; ")
	}
	n.text.WriteString(Clean(text, max(0, MaxNote-n.text.Len())))
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// Clean makes text from outside fit for records and terminals: valid UTF-8 of at most limit bytes on one line, without
// control characters. What was cut off is marked.
func Clean(text string, limit int) string {
	const mark = " [cut]"
	cut := len(text) > 4*limit+4*len(mark) // so much cannot fit whatever it is; the rest need not be looked at
	if cut {
		text = text[:4*limit]
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || !unicode.IsPrint(r)
	}), " ")
	if len(text) <= limit && !cut {
		return text
	}
	end := min(len(text), max(0, limit-len(mark)))
	for end > 0 && end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	if limit < len(mark) {
		return text[:min(end, limit)]
	}
	return text[:end] + mark
}
