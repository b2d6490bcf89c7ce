package cluster

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// stdWriter turns the lines of serf and memberlist, "[WARN] serf: text", into records.
type stdWriter struct {
	log  *slog.Logger
	name string
}

func newStdLog(l *slog.Logger, name string) *log.Logger {
	return log.New(&stdWriter{l, name}, "", 0)
}

var stdPrefixes = []struct {
	text  string
	level slog.Level
}{
	{"[TRACE]", slog.LevelDebug - 4},
	{"[DEBUG]", slog.LevelDebug},
	{"[INFO]", slog.LevelDebug}, // as with raft: of no interest to an operator
	{"[WARN]", slog.LevelWarn},
	{"[ERR]", slog.LevelError},
	{"[ERROR]", slog.LevelError},
}

// Write writes one line as one record.
func (w *stdWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelInfo, bytes.TrimSpace(line)
	for _, p := range stdPrefixes {
		if rest, found := bytes.CutPrefix(text, []byte(p.text)); found {
			level, text = p.level, bytes.TrimSpace(rest)
			break
		}
	}
	w.log.Log(context.Background(), level, string(text), "part", w.name)
	return len(line), nil
}
