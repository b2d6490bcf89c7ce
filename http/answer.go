package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/holdfast-io/holdfast/http/api"
)

// answer is a complete response that has not been sent to the caller yet, so that it can still be thrown away for a
// second try.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}} }

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// maxAnswer bounds what is kept of another host's answer: a list of 100,000 volumes.
const maxAnswer = 64 << 20

// readAnswer takes over another host's response.
func readAnswer(resp *http.Response) (*answer, error) {
	a := newAnswer()
	a.status = resp.StatusCode
	for k, v := range resp.Header {
		if k == "Content-Type" || k == "Retry-After" || strings.HasPrefix(k, "X-Holdfast-") {
			a.header[k] = v
		}
	}
	n, err := io.Copy(&a.body, io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if n > maxAnswer {
		return nil, fmt.Errorf("reading the answer: larger than %d bytes", maxAnswer)
	}
	return a, nil
}

// problem is the error the answer carries, nil when it is none.
func (a *answer) problem() *api.Error {
	if a.status < 400 || a.header.Get("Content-Type") != api.ProblemType {
		return nil
	}
	e := &api.Error{}
	if json.Unmarshal(a.body.Bytes(), e) == nil {
		return e
	}
	return nil // passed on as it is
}

// send passes the answer on.
func (a *answer) send(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes())
}
