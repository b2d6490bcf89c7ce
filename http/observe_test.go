package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	httpapi "github.com/holdfast-io/holdfast/http"
)

// Every answer is counted under its route, never under the path, whose values are without end.
func TestHandler_observe(t *testing.T) {
	t.Parallel()
	type seen struct {
		route  string
		status int
	}
	var got []seen
	h := httpapi.New(httpapi.Config{Observe: func(_, route string, status int, took time.Duration) {
		if took < 0 {
			t.Error("negative time")
		}
		got = append(got, seen{route, status})
	}}, httpapi.Backend{}).For(httpapi.Local("test"))
	for _, path := range []string{"/v1/hosts/h1", "/v1/hosts/h2", "/nowhere"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := seen{"/v1/hosts/{name}", http.StatusConflict}
	if len(got) != 2 || got[0] != want || got[1] != want {
		t.Fatalf("observed %v, want twice %v", got, want)
	}
}
