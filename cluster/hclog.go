package cluster

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hcLogger is raft's logger on top of slog. Levels are the handler's business, so SetLevel does nothing.
type hcLogger struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*hcLogger)(nil)

func newHCLogger(l *slog.Logger, name string) *hcLogger { return &hcLogger{log: l, name: name} }

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// Log writes one record. Values that hclog would format itself become their text.
func (h *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	if !h.log.Enabled(context.Background(), l) {
		return
	}
	all := append(append([]any{"part", h.name}, h.args...), args...)
	for i, a := range all {
		switch v := a.(type) {
		case hclog.Format:
			if f, ok := v[0].(string); ok {
				all[i] = fmt.Sprintf(f, v[1:]...)
			}
		case error:
			all[i] = v.Error()
		case fmt.Stringer:
			all[i] = v.String()
		}
	}
	h.log.Log(context.Background(), l, msg, all...)
}

// Trace and the following write one record of their level.
func (h *hcLogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }

// Debug writes one record.
func (h *hcLogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }

// Info writes one record. Raft's chatter about itself is of no interest to an operator, so it is written as debug.
func (h *hcLogger) Info(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }

// Warn writes one record.
func (h *hcLogger) Warn(msg string, args ...any) { h.Log(hclog.Warn, msg, args...) }

// Error writes one record.
func (h *hcLogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hcLogger) enabled(l hclog.Level) bool {
	return h.log.Enabled(context.Background(), slogLevel(l))
}

// IsTrace and the following say whether a level is written.
func (h *hcLogger) IsTrace() bool { return h.enabled(hclog.Trace) }

// IsDebug says whether debug records are written.
func (h *hcLogger) IsDebug() bool { return h.enabled(hclog.Debug) }

// IsInfo says whether info records are written.
func (h *hcLogger) IsInfo() bool { return h.enabled(hclog.Debug) }

// IsWarn says whether warnings are written.
func (h *hcLogger) IsWarn() bool { return h.enabled(hclog.Warn) }

// IsError says whether errors are written.
func (h *hcLogger) IsError() bool { return h.enabled(hclog.Error) }

// ImpliedArgs returns what With added.
func (h *hcLogger) ImpliedArgs() []any { return h.args }

// With returns a logger that adds args to each record.
func (h *hcLogger) With(args ...any) hclog.Logger {
	return &hcLogger{h.log, h.name, append(append([]any{}, h.args...), args...)}
}

// Name is the part of the program that writes.
func (h *hcLogger) Name() string { return h.name }

// Named returns a logger for a part of this part.
func (h *hcLogger) Named(name string) hclog.Logger { return h.ResetNamed(h.name + "." + name) }

// ResetNamed returns a logger for another part.
func (h *hcLogger) ResetNamed(name string) hclog.Logger { return &hcLogger{h.log, name, h.args} }

// SetLevel does nothing.
func (h *hcLogger) SetLevel(hclog.Level) {}

// GetLevel is the lowest level that is written.
func (h *hcLogger) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if h.enabled(l) {
			return l
		}
	}
	return hclog.Error
}

// StandardLogger returns a logger of package log that writes here.
func (h *hcLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return newStdLog(h.log, h.name)
}

// StandardWriter returns what StandardLogger writes to.
func (h *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return &stdWriter{h.log, h.name}
}
