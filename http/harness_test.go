package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"go.uber.org/goleak"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parsed is the document, read once: it is the same for all tests and nobody changes it.
var parsed = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(httpapi.OpenAPI())
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

// routed finds the operation of a request.
var routed = sync.OnceValues(func() (routers.Router, error) {
	doc, err := parsed()
	if err != nil {
		return nil, err
	}
	return gorillamux.NewRouter(doc)
})

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// judge holds every exchange against the document.
type judge struct {
	handler http.Handler
	router  routers.Router
}

func newJudge(t *testing.T, h http.Handler) *judge {
	t.Helper()
	router, err := routed()
	if err != nil {
		t.Fatal(err)
	}
	return &judge{handler: h, router: router}
}

// local makes a judge of a handler on a new fake, with admin callers.
func local(t *testing.T) (*judge, *apitest.Fake) {
	t.Helper()
	f := apitest.New()
	return newJudge(t, httpapi.New(httpapi.Config{Host: "h1"}, f.Backend()).For(httpapi.Local("test"))), f
}

// request builds a request; a body that is no string is sent as JSON.
func request(t *testing.T, method, target string, body any) *http.Request {
	t.Helper()
	var r *http.Request
	switch b := body.(type) {
	case nil:
		r = httptest.NewRequest(method, target, nil)
	case string:
		r = httptest.NewRequest(method, target, strings.NewReader(b))
	default:
		j, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = httptest.NewRequest(method, target, bytes.NewReader(j))
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Host = "localhost"
	return r
}

// send runs a request and validates the answer, and the request too when it was accepted.
func (j *judge) send(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rec := httptest.NewRecorder()
	j.handler.ServeHTTP(rec, r)
	r.Body = io.NopCloser(bytes.NewReader(body))
	resp := rec.Result()
	j.validate(t, r, resp, rec.Body.Bytes())
	resp.Body = io.NopCloser(bytes.NewReader(rec.Body.Bytes()))
	return resp
}

func (j *judge) validate(t *testing.T, r *http.Request, resp *http.Response, body []byte) {
	t.Helper()
	route, params, err := j.router.FindRoute(r)
	if err != nil {
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s is not documented but answers %d", r.Method, r.URL.Path, resp.StatusCode)
		}
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if resp.StatusCode < 400 {
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			t.Errorf("accepted a request that the document refuses: %v", err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: in.Options}
	out.SetBodyBytes(body)
	if resp.StatusCode == http.StatusNoContent {
		return
	}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		t.Errorf("%s %s: answer %d is not as documented: %v\n%s", r.Method, r.URL, resp.StatusCode, err, body)
	}
}

// want decodes an answer with the given status.
func want[T any](t *testing.T, resp *http.Response, status int) T {
	t.Helper()
	var v T
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, b)
	}
	if len(b) == 0 {
		return v
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

// wantCode decodes a problem and checks its code and status.
func wantCode(t *testing.T, resp *http.Response, code string) api.Error {
	t.Helper()
	if ct := resp.Header.Get("Content-Type"); ct != api.ProblemType {
		t.Errorf("content type %q", ct)
	}
	e := want[api.Error](t, resp, resp.StatusCode)
	if e.Code != code {
		t.Fatalf("code %q, want %q: %+v", e.Code, code, e)
	}
	if e.RequestID == "" || e.RequestID != resp.Header.Get(api.HeaderRequestID) {
		t.Errorf("request id %q in the problem, %q in the header", e.RequestID, resp.Header.Get(api.HeaderRequestID))
	}
	return e
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
