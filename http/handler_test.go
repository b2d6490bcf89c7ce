package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	httpapi "github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

// everyRoute is one valid request for each route.
var everyRoute = []struct {
	method, path string
	body         any
	status       int
}{
	{"GET", "/healthz", nil, 200},
	{"GET", "/v1/openapi.yaml", nil, 200},
	{"GET", "/v1/status", nil, 200},
	{"GET", "/v1/hosts", nil, 200},
	{"GET", "/v1/hosts/h1", nil, 200},
	{"GET", "/v1/domains?consistent", nil, 200},
	{"POST", "/v1/domains", api.DomainCreate{Name: "san2", Devices: []string{"/dev/sdb"}}, 201},
	{"GET", "/v1/domains/san1", nil, 200},
	{"POST", "/v1/domains/san1/check", nil, 200},
	{"POST", "/v1/domains/san1/activate", api.DomainWish{}, 200},
	{"POST", "/v1/domains/san1/deactivate", api.DomainWish{Reason: "work on the array"}, 200},
	{"POST", "/v1/domains/san1/extend", api.DomainExtend{LUN: "/dev/sdc", Force: "ext4"}, 200},
	{"POST", "/v1/domains/san1/set-master", api.MasterSet{Reason: "the other array goes"}, 200},
	{"POST", "/v1/domains/san1/reconstruct", api.MasterReconstruct{Reason: "it burnt", Force: true, Dead: []string{"h3"}}, 200},
	{"GET", "/v1/domains/san1/leases", nil, 200},
	{"POST", "/v1/domains/san1/leases", api.LeaseCreate{ID: "9d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02"}, 201},
	{"POST", "/v1/domains/san1/leases/rebuild", api.LeaseRebuild{Force: true}, 200},
	{"GET", "/v1/domains/san1/leases/" + apitest.LeaseID, nil, 200},
	{"POST", "/v1/domains/san1/leases/" + apitest.LeaseID + "/acquire", api.LeaseFor{VM: "vm1"}, 200},
	{"POST", "/v1/domains/san1/leases/" + apitest.LeaseID + "/release", api.LeaseFor{}, 200},
	{"DELETE", "/v1/domains/san1/leases/" + apitest.LeaseID + "?force=true", nil, 200},
	{"GET", "/v1/images?domain=san1", nil, 200},
	{"GET", "/v1/images/" + apitest.ImageID, nil, 200},
	{"POST", "/v1/images/web1/snapshot", api.ImageSnapshot{Name: "before"}, 201},
	{"GET", "/v1/volumes?domain=san1&consistent=true", nil, 200},
	{"POST", "/v1/volumes", api.VolumeCreate{Name: "v", Size: 1 << 30}, 201},
	{"GET", "/v1/volumes/web1", nil, 200},
	{"PATCH", "/v1/volumes/web1", api.VolumeUpdate{Description: new("new")}, 200},
	{"POST", "/v1/volumes/web1/extend", api.VolumeExtend{Size: 20 << 30, Paused: true, SecondsToFull: 1.5, WaitSeconds: 2}, 200},
	{"DELETE", "/v1/volumes/" + apitest.VolumeID, nil, 200},
	{"GET", "/v1/mailbox", nil, 200},
	{"PATCH", "/v1/domains/san1", api.DomainSet{WarnPercent: new(15), CriticalFree: new(int64(8 << 30))}, 200},
	{"GET", "/v1/spm", nil, 200},
	{"PATCH", "/v1/hosts/h2", api.HostSet{Priority: new(-1)}, 200},
	{"POST", "/v1/hosts/h1/maintenance", api.HostMaintain{Reason: "memory", WaitSeconds: 5}, 200},
	{"POST", "/v1/hosts/h1/activate", api.HostActivate{}, 200},
	{"POST", "/v1/hosts/h3/confirm-rebooted", api.HostConfirm{Reason: "I pulled the plug", Force: true}, 200},
	{"POST", "/v1/hosts/h3/remove", api.HostRemove{Reason: "its disk burnt", Force: true}, 200},
	{"GET", "/v1/hosts/h3/power", nil, 200},
	{"POST", "/v1/hosts/h3/power", api.PowerOrder{Action: api.PowerFence, Reason: "it hangs", Force: true}, 200},
	{"GET", "/v1/hosts/h3/power/health?through=h1", nil, 200},
	{"GET", "/v1/hosts/h3/power/devices", nil, 200},
	{"PUT", "/v1/hosts/h3/power/devices/bmc", api.PowerDeviceSet{Type: api.PowerExec, Order: 1, Address: "10.1.0.3", Port: 623, User: "u", Secret: "s",
		Options: map[string]string{"agent": "fence_ipmilan"}, Proxies: []string{"h2"}}, 200},
	{"DELETE", "/v1/hosts/h3/power/devices/bmc", nil, 204},
	{"GET", "/v1/fencing", nil, 200},
	{"PATCH", "/v1/fencing", api.FencingSet{GraceSeconds: new(45.0), Enabled: new(true)}, 200},
	{"POST", "/v1/fencing/disarm", api.FencingDisarm{ForSeconds: 3600, Reason: "new switches"}, 200},
	{"POST", "/v1/fencing/arm", nil, 200},
	{"GET", "/v1/fencing/history?host=h3&limit=5", nil, 200},
	{"GET", "/v1/powersave", nil, 200},
	{"PATCH", "/v1/powersave", api.PowersaveSet{Enabled: new(true), Reserve: new(1)}, 200},
	{"POST", "/v1/spm/move", api.SPMMove{To: "h2", Reason: "work on the power"}, 200},
	{"POST", "/v1/spm/stop", api.SPMStop{}, 200},
	{"POST", "/v1/spm/start", api.SPMStart{}, 200},
	{"GET", "/v1/events?after=2&limit=10", nil, 200},
	{"GET", "/v1/operator/raft/peers", nil, 200},
	{"POST", "/v1/operator/raft/transfer", api.RaftTransfer{}, 200},
	{"GET", "/v1/operator/tokens", nil, 200},
	{"POST", "/v1/operator/tokens", api.TokenCreate{}, 201},
	{"DELETE", "/v1/operator/tokens/k7x2", nil, 204},
	{"POST", "/v1/init", api.Init{Pool: "prod", Devices: []string{"/dev/mapper/a"}}, 200},
	{"POST", "/v1/join", api.Join{Address: "10.0.0.1:7420", Token: "a.b.c"}, 200},
	{"POST", "/v1/leave", api.Leave{}, 200},
}

func TestHandler_everyRouteAsDocumented(t *testing.T) {
	t.Parallel()
	for _, tc := range everyRoute {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			t.Parallel()
			j, _ := local(t)
			resp := j.send(t, request(t, tc.method, tc.path, tc.body))
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.status)
			}
		})
	}
}

// Whatever a role answers, the caller gets a documented problem.
func TestHandler_everyErrorAsDocumented(t *testing.T) {
	t.Parallel()
	for code, status := range api.Codes() {
		for _, tc := range everyRoute {
			j, f := local(t)
			e := &api.Error{Code: code, Message: "m", Holder: "h2", Epoch: 3, RetryAfter: 1500 * time.Millisecond, NextStep: "n"}
			f.Fail(e)
			resp := j.send(t, request(t, tc.method, tc.path, tc.body))
			if tc.path == "/healthz" || tc.path == "/v1/openapi.yaml" {
				continue
			}
			got := wantCode(t, resp, code)
			if resp.StatusCode != status || got.Holder != "h2" || got.Epoch != 3 || got.RetryAfter != e.RetryAfter || resp.Header.Get("Retry-After") != "2" {
				t.Errorf("%s %s: %d %+v", tc.method, tc.path, resp.StatusCode, got)
			}
		}
	}
}

func TestHandler_routesAndDocumentAgree(t *testing.T) {
	t.Parallel()
	served := map[string]bool{}
	for _, r := range httpapi.RouteNames() {
		served[r] = true
	}
	for path, item := range document(t).Paths.Map() {
		for method := range item.Operations() {
			if name := method + " " + path; !served[name] {
				t.Errorf("%s is documented and not served", name)
			} else {
				delete(served, name)
			}
		}
	}
	for name := range served {
		t.Errorf("%s is served and not documented", name)
	}
}

// The planted fault: the judge must see an answer that is not as documented.
func TestJudge_catchesAWrongAnswer(t *testing.T) {
	t.Parallel()
	j := newJudge(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"host":"h1","host_id":1,"epoch":"three","state":"serving","since":"2026-11-21T12:00:00Z","desired":"any"}`))
	}))
	inner := &testing.T{}
	func() {
		defer func() { _ = recover() }()
		r := request(t, "GET", "/v1/spm", nil)
		rec := httptest.NewRecorder()
		j.handler.ServeHTTP(rec, r)
		j.validate(inner, r, rec.Result(), rec.Body.Bytes())
	}()
	if !inner.Failed() {
		t.Error("a string for epoch went through")
	}
}

func TestHandler_documentNamesEveryCode(t *testing.T) {
	t.Parallel()
	named := map[any]bool{}
	for _, c := range document(t).Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		named[c] = true
	}
	for c := range api.Codes() {
		if !named[c] {
			t.Errorf("code %s is not in the document", c)
		}
	}
	if len(named) != len(api.Codes()) {
		t.Errorf("the document names %d codes, there are %d", len(named), len(api.Codes()))
	}
}

func TestHandler_badInput(t *testing.T) {
	t.Parallel()
	volume := func(change string) string {
		return `{"name":"v","size":1073741824` + change + `}`
	}
	long := strings.Repeat("x", 129)
	for name, tc := range map[string]struct {
		method, path, body, code string
	}{
		"no body":               {"POST", "/v1/volumes", "", api.CodeInvalid},
		"not JSON":              {"POST", "/v1/volumes", "name=v", api.CodeInvalid},
		"an array":              {"POST", "/v1/volumes", "[]", api.CodeInvalid},
		"two objects":           {"POST", "/v1/volumes", volume("") + volume(""), api.CodeInvalid},
		"unknown field":         {"POST", "/v1/volumes", volume(`,"sise":1`), api.CodeInvalid},
		"no name":               {"POST", "/v1/volumes", `{"size":1024}`, api.CodeInvalid},
		"name with a slash":     {"POST", "/v1/volumes", `{"name":"../../etc/passwd","size":1024}`, api.CodeInvalid},
		"name with a space":     {"POST", "/v1/volumes", `{"name":"a b","size":1024}`, api.CodeInvalid},
		"name with a newline":   {"POST", "/v1/volumes", `{"name":"a\nb","size":1024}`, api.CodeInvalid},
		"name with a NUL":       {"POST", "/v1/volumes", `{"name":"a\u0000","size":1024}`, api.CodeInvalid},
		"name of an option":     {"POST", "/v1/volumes", `{"name":"-rf","size":1024}`, api.CodeInvalid},
		"name with emoji":       {"POST", "/v1/volumes", `{"name":"disk💾","size":1024}`, api.CodeInvalid},
		"name too long":         {"POST", "/v1/volumes", `{"name":"` + long + `","size":1024}`, api.CodeInvalid},
		"name like an id":       {"POST", "/v1/volumes", `{"name":"` + apitest.VolumeID + `","size":1024}`, api.CodeInvalid},
		"size 0":                {"POST", "/v1/volumes", `{"name":"v","size":0}`, api.CodeInvalid},
		"size missing":          {"POST", "/v1/volumes", `{"name":"v"}`, api.CodeInvalid},
		"size negative":         {"POST", "/v1/volumes", `{"name":"v","size":-1073741824}`, api.CodeInvalid},
		"size absurd":           {"POST", "/v1/volumes", `{"name":"v","size":9223372036854775296}`, api.CodeInvalid},
		"size over int64":       {"POST", "/v1/volumes", `{"name":"v","size":99999999999999999999}`, api.CodeInvalid},
		"size just over":        {"POST", "/v1/volumes", `{"name":"v","size":8796093022720}`, api.CodeInvalid},
		"size odd":              {"POST", "/v1/volumes", `{"name":"v","size":1000}`, api.CodeInvalid},
		"size a string":         {"POST", "/v1/volumes", `{"name":"v","size":"10GiB"}`, api.CodeInvalid},
		"size a fraction":       {"POST", "/v1/volumes", `{"name":"v","size":1.5}`, api.CodeInvalid},
		"initial over size":     {"POST", "/v1/volumes", volume(`,"initial_size":2147483648`), api.CodeInvalid},
		"initial negative":      {"POST", "/v1/volumes", volume(`,"initial_size":-1`), api.CodeInvalid},
		"format":                {"POST", "/v1/volumes", volume(`,"format":"vmdk"`), api.CodeInvalid},
		"sparse raw":            {"POST", "/v1/volumes", volume(`,"format":"raw","allocation":"sparse"`), api.CodeInvalid},
		"allocation":            {"POST", "/v1/volumes", volume(`,"allocation":"thick"`), api.CodeInvalid},
		"image no UUID":         {"POST", "/v1/volumes", volume(`,"image":"1"`), api.CodeInvalid},
		"parent in braces":      {"POST", "/v1/volumes", volume(`,"parent":"{` + apitest.VolumeID + `}"`), api.CodeInvalid},
		"description too long":  {"POST", "/v1/volumes", volume(`,"description":"` + long + long + `"`), api.CodeInvalid},
		"description controls":  {"POST", "/v1/volumes", volume(`,"description":"a\u001b[2J"`), api.CodeInvalid},
		"body too large":        {"POST", "/v1/volumes", volume(`,"description":"` + strings.Repeat("x", 70000) + `"`), api.CodeTooLarge},
		"update of nothing":     {"PATCH", "/v1/volumes/web1", `{}`, api.CodeInvalid},
		"update unknown field":  {"PATCH", "/v1/volumes/web1", `{"size":1024}`, api.CodeInvalid},
		"update name empty":     {"PATCH", "/v1/volumes/web1", `{"name":""}`, api.CodeInvalid},
		"extend to nothing":     {"POST", "/v1/volumes/web1/extend", `{"size":0}`, api.CodeInvalid},
		"extend backwards":      {"POST", "/v1/volumes/web1/extend", `{"size":-5}`, api.CodeInvalid},
		"extend beyond sense":   {"POST", "/v1/volumes/web1/extend", `{"size":9223372036854775807}`, api.CodeInvalid},
		"extend without a size": {"POST", "/v1/volumes/web1/extend", `{}`, api.CodeInvalid},
		"extend waits for long": {"POST", "/v1/volumes/web1/extend", `{"size":1,"wait_seconds":41}`, api.CodeInvalid},
		"extend long ago":       {"POST", "/v1/volumes/web1/extend", `{"size":1,"seconds_to_full":-1}`, api.CodeInvalid},
		"extend by a word":      {"POST", "/v1/volumes/web1/extend", `{"size":"20GiB"}`, api.CodeInvalid},
		"set nothing":           {"PATCH", "/v1/domains/san1", `{}`, api.CodeInvalid},
		"warn at 101 percent":   {"PATCH", "/v1/domains/san1", `{"warn_percent":101}`, api.CodeInvalid},
		"critical below 0":      {"PATCH", "/v1/domains/san1", `{"critical_free":-1}`, api.CodeInvalid},
		"update name like id":   {"PATCH", "/v1/volumes/web1", `{"name":"` + apitest.VolumeID + `"}`, api.CodeInvalid},
		"update name newline":   {"PATCH", "/v1/volumes/web1", `{"name":"a\nb"}`, api.CodeInvalid},
		"update text too long":  {"PATCH", "/v1/volumes/web1", `{"description":"` + long + long + `"}`, api.CodeInvalid},
		"update text controls":  {"PATCH", "/v1/volumes/web1", `{"description":"a\u0000"}`, api.CodeInvalid},
		"update no such volume": {"PATCH", "/v1/volumes/none", `{"name":"v"}`, api.CodeNotFound},
		"no such volume":        {"GET", "/v1/volumes/none", "", api.CodeNotFound},
		"no such host":          {"GET", "/v1/hosts/none", "", api.CodeNotFound},
		"no such domain":        {"GET", "/v1/domains/none", "", api.CodeNotFound},
		"name with a slash GET": {"GET", "/v1/volumes/a%2Fb", "", api.CodeNotFound},
		"no such path":          {"GET", "/v1/nothing", "", api.CodeNotFound},
		"no such method":        {"PUT", "/v1/volumes", "{}", api.CodeMethod},
		"no such method on id":  {"POST", "/v1/volumes/web1", "{}", api.CodeMethod},
		"unknown parameter":     {"GET", "/v1/volumes?namme=x", "", api.CodeInvalid},
		"parameter twice":       {"GET", "/v1/volumes?name=x&name=y", "", api.CodeInvalid},
		"wait no number":        {"GET", "/v1/volumes?wait=soon", "", api.CodeInvalid},
		"wait negative":         {"GET", "/v1/volumes?wait=-1", "", api.CodeInvalid},
		"timeout absurd":        {"GET", "/v1/volumes?wait=1&timeout=900h", "", api.CodeInvalid},
		"timeout no duration":   {"GET", "/v1/volumes?wait=1&timeout=5", "", api.CodeInvalid},
		"limit 0":               {"GET", "/v1/events?limit=0", "", api.CodeInvalid},
		"limit absurd":          {"GET", "/v1/events?limit=100000", "", api.CodeInvalid},
		"domain no devices":     {"POST", "/v1/domains", `{"name":"d","devices":[]}`, api.CodeInvalid},
		"domain device path":    {"POST", "/v1/domains", `{"name":"d","devices":["sdb"]}`, api.CodeInvalid},
		"domain device twice":   {"POST", "/v1/domains", `{"name":"d","devices":["/dev/sdb","/dev/sdb"]}`, api.CodeInvalid},
		"move to nonsense":      {"POST", "/v1/spm/move", `{"to":"h1;reboot"}`, api.CodeInvalid},
		"move, odd reason":      {"POST", "/v1/spm/move", `{"reason":"a\nb"}`, api.CodeInvalid},
		"stop, long reason":     {"POST", "/v1/spm/stop", `{"reason":"` + strings.Repeat("x", 501) + `"}`, api.CodeInvalid},
		"priority 11":           {"PATCH", "/v1/hosts/h1", `{"priority":11}`, api.CodeInvalid},
		"priority -2":           {"PATCH", "/v1/hosts/h1", `{"priority":-2}`, api.CodeInvalid},
		"no setting":            {"PATCH", "/v1/hosts/h1", `{}`, api.CodeInvalid},
		"maintenance of nobody": {"POST", "/v1/hosts/h9/maintenance", `{}`, api.CodeNotFound},
		"no host's name":        {"POST", "/v1/hosts/a%20b/activate", `{}`, api.CodeInvalid},
		"waits too long":        {"POST", "/v1/hosts/h1/maintenance", `{"wait_seconds":46}`, api.CodeInvalid},
		"waits backwards":       {"POST", "/v1/hosts/h1/activate", `{"wait_seconds":-1}`, api.CodeInvalid},
		"reason with a control": {"POST", "/v1/hosts/h1/maintenance", `{"reason":"a\nb"}`, api.CodeInvalid},
		"confirm, no reason":    {"POST", "/v1/hosts/h3/confirm-rebooted", `{"reason":" ","force":true}`, api.CodeInvalid},
		"lost, no reason":       {"POST", "/v1/domains/san1/reconstruct", `{}`, api.CodeInvalid},
		"lost, dead alone":      {"POST", "/v1/domains/san1/reconstruct", `{"reason":"burnt","dead":["h3"]}`, api.CodeInvalid},
		"lost, no name":         {"POST", "/v1/domains/san1/reconstruct", `{"reason":"burnt","force":true,"dead":[""]}`, api.CodeInvalid},
		"lost, not proven":      {"POST", "/v1/domains/san1/reconstruct", `{"reason":"burnt"}`, api.CodeConflict},
		"master of none":        {"POST", "/v1/domains/none/set-master", `{}`, api.CodeNotFound},
		"confirm, storage live": {"POST", "/v1/hosts/h3/confirm-rebooted", `{"reason":"seen"}`, api.CodeConflict},
		"remove, no reason":     {"POST", "/v1/hosts/h3/remove", `{"force":true}`, api.CodeInvalid},
		"remove, storage live":  {"POST", "/v1/hosts/h3/remove", `{}`, api.CodeConflict},
		"token role":            {"POST", "/v1/operator/tokens", `{"role":"root"}`, api.CodeInvalid},
		"token for ever":        {"POST", "/v1/operator/tokens", `{"ttl_seconds":99999999999}`, api.CodeInvalid},
		"init profile":          {"POST", "/v1/init", `{"pool":"p","profile":"faster"}`, api.CodeInvalid},
		"init force":            {"POST", "/v1/init", `{"pool":"p","force":"vg0"}`, api.CodeInvalid},
		"join without token":    {"POST", "/v1/join", `{"address":"a:1"}`, api.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, f := local(t)
			var body any
			if tc.method != "GET" {
				body = tc.body
			}
			wantCode(t, j.send(t, request(t, tc.method, tc.path, body)), tc.code)
			if f.Creates() != 0 {
				t.Error("something was made")
			}
		})
	}
}

func TestHandler_wantsJSON(t *testing.T) {
	t.Parallel()
	j, _ := local(t)
	r := request(t, "POST", "/v1/volumes", `{"name":"v","size":1024}`)
	r.Header.Set("Content-Type", "text/plain")
	wantCode(t, j.send(t, r), api.CodeMediaType)
}

func TestHandler_badIdempotencyKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"a b", "ü", strings.Repeat("k", 129)} {
		j, _ := local(t)
		r := request(t, "POST", "/v1/volumes", `{"name":"v","size":1024}`)
		r.Header.Set(api.HeaderIdempotency, key)
		wantCode(t, j.send(t, r), api.CodeInvalid)
	}
}

func TestHandler_sameKeySameVolume(t *testing.T) {
	t.Parallel()
	j, f := local(t)
	var first api.VolumeCreated
	for i := range 2 {
		r := request(t, "POST", "/v1/volumes", api.VolumeCreate{Name: "v", Size: 1 << 30})
		r.Header.Set(api.HeaderIdempotency, "k1")
		v := want[api.VolumeCreated](t, j.send(t, r), 201)
		if i == 1 && v != first {
			t.Errorf("got %+v and %+v", first, v)
		}
		first = v
	}
	if f.Creates() != 1 || first.Format != api.FormatQCOW2 || first.Allocation != api.AllocationSparse {
		t.Errorf("%d made, %+v", f.Creates(), first)
	}
}

func TestHandler_methodNotAllowedNamesTheOthers(t *testing.T) {
	t.Parallel()
	j, _ := local(t)
	resp := j.send(t, request(t, "PUT", "/v1/volumes/web1", `{}`))
	if got := resp.Header.Get("Allow"); got != "GET, PATCH, DELETE" {
		t.Errorf("Allow: %q", got)
	}
}

func TestHandler_namesAreUnescaped(t *testing.T) {
	t.Parallel()
	j, _ := local(t)
	e := wantCode(t, j.send(t, request(t, "GET", "/v1/volumes/"+url.PathEscape("a/b c%"), nil)), api.CodeNotFound)
	if !strings.Contains(e.Message, `"a/b c%"`) {
		t.Errorf("message %q", e.Message)
	}
}

func TestHandler_notMember(t *testing.T) {
	t.Parallel()
	f := apitest.New()
	h := httpapi.New(httpapi.Config{Host: "h1"}, httpapi.Backend{Status: f, Setup: f})
	j := newJudge(t, h.For(httpapi.Local("test")))
	for _, tc := range everyRoute {
		resp := j.send(t, request(t, tc.method, tc.path, tc.body))
		switch {
		case tc.path == "/healthz" || tc.path == "/v1/status" || tc.path == "/v1/openapi.yaml" ||
			tc.path == "/v1/init" || tc.path == "/v1/join" || tc.path == "/v1/leave":
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s answers %d", tc.path, resp.StatusCode)
			}
		default:
			if e := wantCode(t, resp, api.CodeNotMember); !strings.Contains(e.NextStep, "holdfast init") {
				t.Errorf("%s: next step %q", tc.path, e.NextStep)
			}
		}
	}
	h.Use(f.Backend())
	want[[]api.Host](t, j.send(t, request(t, "GET", "/v1/hosts", nil)), 200)
}

// empty is the mirror of a new member.
type empty struct{}

func (empty) Sync(context.Context, bool, uint64) (httpapi.Mark, error) {
	return httpapi.Mark{}, &api.Error{Code: api.CodeUnavailable, Message: "no leader has told it yet"}
}

// A new member that has heard nothing yet has a status; whoever wants to be sure is refused.
func TestHandler_newMember(t *testing.T) {
	t.Parallel()
	b := apitest.New().Backend()
	b.Mirror = empty{}
	j := newJudge(t, httpapi.New(httpapi.Config{Host: "h1"}, b).For(httpapi.Local("test")))
	resp := j.send(t, request(t, "GET", "/v1/status", nil))
	want[api.Status](t, resp, 200)
	if resp.Header.Get("X-Holdfast-Index") != "" || resp.Header.Get("X-Holdfast-Age") != "" {
		t.Errorf("it says how new its mirror is: %v", resp.Header)
	}
	for _, path := range []string{"/v1/status?consistent=true", "/v1/status?wait=3", "/v1/volumes"} {
		wantCode(t, j.send(t, request(t, "GET", path, nil)), api.CodeUnavailable)
	}
}

func TestHandler_internalErrorsAreLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := apitest.New()
	f.Fail(errors.New("boom"))
	cfg := httpapi.Config{Host: "h1", Log: slog.New(slog.NewTextHandler(&log, nil))}
	j := newJudge(t, httpapi.New(cfg, f.Backend()).For(httpapi.Local("test")))
	e := wantCode(t, j.send(t, request(t, "GET", "/v1/spm", nil)), api.CodeInternal)
	if !strings.Contains(log.String(), e.RequestID) || !strings.Contains(log.String(), "boom") {
		t.Errorf("log: %s", log.String())
	}
}

type panics struct{ *apitest.Fake }

func (panics) Hosts(context.Context) ([]api.Host, error) { panic("planted") }

func (panics) CreateVolume(context.Context, api.VolumeCreate, string) (api.VolumeCreated, error) {
	panic("planted")
}

func TestHandler_panicIsAnAnswer(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b := apitest.New().Backend()
	b.Hosts, b.Volumes = panics{}, panics{}
	cfg := httpapi.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}
	j := newJudge(t, httpapi.New(cfg, b).For(httpapi.Local("test")))
	wantCode(t, j.send(t, request(t, "GET", "/v1/hosts", nil)), api.CodeInternal)
	e := wantCode(t, j.send(t, request(t, "POST", "/v1/volumes", api.VolumeCreate{Name: "v", Size: 1024})), api.CodeOutcomeUnknown)
	if !strings.Contains(log.String(), "planted") || !strings.Contains(log.String(), e.RequestID) {
		t.Errorf("log: %s", log.String())
	}
}

func TestHandler_requestID(t *testing.T) {
	t.Parallel()
	j, _ := local(t)
	for given, kept := range map[string]bool{"abc-1": true, "a b": false, "": false, strings.Repeat("x", 65): false, "a\"b": false} {
		r := request(t, "GET", "/v1/spm", nil)
		r.Header.Set(api.HeaderRequestID, given)
		got := j.send(t, r).Header.Get(api.HeaderRequestID)
		if (got == given) != kept || got == "" {
			t.Errorf("given %q, got %q", given, got)
		}
	}
}

func TestHandler_metrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_test_total", Help: "Test."})
	reg.MustRegister(c)
	c.Inc()
	j := newJudge(t, httpapi.New(httpapi.Config{Metrics: reg}, httpapi.Backend{}).For(httpapi.Local("test")))
	rec := httptest.NewRecorder()
	j.handler.ServeHTTP(rec, request(t, "GET", "/metrics", nil))
	if !strings.Contains(rec.Body.String(), "holdfast_test_total 1") {
		t.Errorf("got %s", rec.Body)
	}
}

func TestHandler_unhealthy(t *testing.T) {
	t.Parallel()
	j, f := local(t)
	f.Fail(errors.New("the keeper is gone"))
	if h := want[api.Health](t, j.send(t, request(t, "GET", "/healthz", nil)), 503); h.OK || h.Reason == "" {
		t.Errorf("got %+v", h)
	}
}

func TestHandler_waitAnswersOnChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j, f := local(t)
		start := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			f.Advance()
		}()
		resp := j.send(t, request(t, "GET", "/v1/hosts?wait=7", nil))
		if resp.Header.Get(api.HeaderIndex) != "8" || time.Since(start) != 3*time.Second || resp.Header.Get(api.HeaderAge) != "12" {
			t.Errorf("index %s after %s", resp.Header.Get(api.HeaderIndex), time.Since(start))
		}
	})
}

func TestHandler_waitEndsWithTheOldList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j, _ := local(t)
		start := time.Now()
		resp := j.send(t, request(t, "GET", "/v1/hosts?wait=7&timeout=2m", nil))
		if l := want[[]api.Host](t, resp, 200); len(l) != 3 || resp.Header.Get(api.HeaderIndex) != "7" || time.Since(start) != 2*time.Minute {
			t.Errorf("%d hosts at %s after %s", len(l), resp.Header.Get(api.HeaderIndex), time.Since(start))
		}
	})
}
