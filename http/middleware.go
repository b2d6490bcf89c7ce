package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
)

type contextKey int

const (
	keyIdentity contextKey = iota
	keyRequestID
	keyClosing
)

func identityOf(ctx context.Context) Identity {
	id, _ := ctx.Value(keyIdentity).(Identity)
	return id
}

func requestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(keyRequestID).(string)
	return id
}

// withRequestID takes over a sane request id or makes one, and puts it into the answer.
func withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(api.HeaderRequestID)
		if !saneRequestID(id) {
			id = uuid.NewString()
		}
		w.Header().Set(api.HeaderRequestID, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), keyRequestID, id)))
	})
}

func saneRequestID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// recorder remembers what was answered, for the log and for a panic.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the real writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// withLog logs every request, changes louder than questions.
func withLog(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, start := &recorder{ResponseWriter: w}, time.Now()
		next.ServeHTTP(rec, r)
		level := slog.LevelDebug
		if rec.status >= 500 {
			level = slog.LevelWarn
		} else if r.Method != http.MethodGet && r.Method != http.MethodHead {
			level = slog.LevelInfo
		}
		log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", rec.status,
			"took", time.Since(start), "request_id", requestIDOf(r.Context()), "forwarded_by", r.Header.Get(api.HeaderForwarded))
	})
}

// withRecover turns a panic into an answer; the agent goes on, since a handler owns no state that outlives it.
func withRecover(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			log.Error("handler panicked", "panic", p, "method", r.Method, "path", r.URL.Path,
				"request_id", requestIDOf(r.Context()), "stack", string(debug.Stack()))
			if rec.status == 0 {
				writeProblem(rec, panicProblem(r.Method))
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func panicProblem(method string) *api.Error {
	if method == http.MethodGet || method == http.MethodHead {
		return api.Errorf(api.CodeInternal, "report the log lines with this request id", "the agent hit a defect")
	}
	e := api.Errorf(api.CodeOutcomeUnknown, "list what exists before trying again, and report the log lines with this request id",
		"the agent hit a defect while it made the change")
	e.Status = http.StatusInternalServerError
	return e
}
