package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

func TestPower_refusesNonsense(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(httpapi.New(httpapi.Config{Host: "h1"}, apitest.New().Backend()).For(httpapi.Local("test")))
	t.Cleanup(srv.Close)
	for _, tc := range []struct{ name, method, path, body string }{
		{"an unknown type", "PUT", "/v1/hosts/h1/power/devices/bmc", `{"type":"lamp"}`},
		{"a secret of two lines", "PUT", "/v1/hosts/h1/power/devices/bmc", `{"type":"ipmi","secret":"a\nb"}`},
		{"a secret that is too long", "PUT", "/v1/hosts/h1/power/devices/bmc", `{"type":"ipmi","secret":"` + strings.Repeat("x", 1025) + `"}`},
		{"an option with a line break", "PUT", "/v1/hosts/h1/power/devices/bmc", `{"type":"exec","options":{"agent":"fence_x\nplug=2"}}`},
		{"an unknown field", "PUT", "/v1/hosts/h1/power/devices/bmc", `{"type":"ipmi","password":"x"}`},
		{"an unknown action", "POST", "/v1/hosts/h1/power", `{"action":"reset"}`},
		{"a fence without a reason", "POST", "/v1/hosts/h1/power", `{"action":"fence","reason":" "}`},
		{"nothing to set", "PATCH", "/v1/fencing", `{}`},
		{"a negative time", "PATCH", "/v1/fencing", `{"grace_seconds":-1}`},
		{"a disarming without a reason", "POST", "/v1/fencing/disarm", `{"for_seconds":60}`},
		{"a limit that is none", "GET", "/v1/fencing/history?limit=0", ""},
		{"an unknown parameter", "GET", "/v1/fencing/history?hots=h1", ""},
		{"no saving to set", "PATCH", "/v1/powersave", `{}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, srv.URL+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var e api.Error
		err = json.NewDecoder(resp.Body).Decode(&e)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || err != nil || e.Code != api.CodeInvalid {
			t.Errorf("%s: %d %s, %v", tc.name, resp.StatusCode, e.Code, err)
		}
	}
}
