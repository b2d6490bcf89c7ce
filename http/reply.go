package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"

	"github.com/holdfast-io/holdfast/http/api"
)

// reply is what an endpoint answers when all went well.
type reply struct {
	status int // 0 is 200
	body   any // nil sends no content
	mark   *Mark
	epoch  uint64
	gap    string // the header that says that events may be missing; empty: none are
}

// decode reads a JSON body into v. Unknown fields and anything after the value are refused.
func decode(r *http.Request, v any) error {
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return api.Errorf(api.CodeMediaType, "send the header Content-Type: application/json", "the body must be application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badBody(err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return api.Errorf(api.CodeInvalid, "send one JSON object", "there is something after the JSON value")
	}
	return nil
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return api.Errorf(api.CodeTooLarge, "", "the body is larger than %d bytes", tooLarge.Limit)
	case errors.Is(err, io.EOF):
		return api.Errorf(api.CodeInvalid, "send a JSON object", "the body is empty")
	}
	return api.Errorf(api.CodeInvalid, "see /v1/openapi.yaml for the fields and their types", "reading the body: %v", err)
}

// writeReply sends a reply as JSON.
func writeReply(w http.ResponseWriter, p reply) {
	h := w.Header()
	if p.mark != nil {
		h.Set(api.HeaderIndex, strconv.FormatUint(p.mark.Index, 10))
		h.Set(api.HeaderAge, strconv.FormatInt(p.mark.Age.Milliseconds(), 10))
	}
	if p.epoch != 0 {
		h.Set(api.HeaderEpoch, strconv.FormatUint(p.epoch, 10))
	}
	if p.gap != "" {
		h.Set(api.HeaderGap, p.gap)
	}
	if p.status == 0 {
		p.status = http.StatusOK
	}
	if p.body == nil {
		w.WriteHeader(p.status)
		return
	}
	b, err := json.Marshal(p.body)
	if err != nil {
		writeProblem(w, api.Errorf(api.CodeInternal, "", "encoding the answer: %v", err))
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_, _ = w.Write(append(b, '\n')) // the caller is gone if this fails; there is nobody to tell
}

// writeProblem sends an error as application/problem+json.
func writeProblem(w http.ResponseWriter, e *api.Error) {
	c := *e
	c.RequestID = w.Header().Get(api.HeaderRequestID)
	b, err := json.Marshal(&c)
	if err != nil { // cannot happen: strings and numbers only
		b = fmt.Appendf(nil, `{"code":%q,"status":%d}`, c.Code, c.HTTPStatus())
	}
	h := w.Header()
	h.Set("Content-Type", api.ProblemType)
	if c.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(c.RetryAfter.Seconds()))))
	}
	w.WriteHeader(c.HTTPStatus())
	_, _ = w.Write(append(b, '\n'))
}
