package httpapi_test

import (
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/apitest"
)

func TestLeases_badInput(t *testing.T) {
	t.Parallel()
	const all = "/v1/domains/san1/leases"
	for name, tc := range map[string]struct{ method, path, body, code string }{
		"no body":            {"POST", all, "", api.CodeInvalid},
		"no id":              {"POST", all, "{}", api.CodeInvalid},
		"id no UUID":         {"POST", all, `{"id":"vm-1"}`, api.CodeInvalid},
		"id in braces":       {"POST", all, `{"id":"{` + apitest.LeaseID + `}"}`, api.CodeInvalid},
		"unknown field":      {"POST", all, `{"id":"` + apitest.LeaseID + `","size":1}`, api.CodeInvalid},
		"no such domain":     {"GET", "/v1/domains/none/leases", "", api.CodeNotFound},
		"create, no domain":  {"POST", "/v1/domains/none/leases", `{"id":"` + apitest.LeaseID + `"}`, api.CodeNotFound},
		"no such lease":      {"GET", all + "/9d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02", "", api.CodeNotFound},
		"show no UUID":       {"GET", all + "/vm-1", "", api.CodeInvalid},
		"delete no UUID":     {"DELETE", all + "/vm-1", "", api.CodeInvalid},
		"force nonsense":     {"DELETE", all + "/" + apitest.LeaseID + "?force=perhaps", "", api.CodeInvalid},
		"consistent":         {"GET", all + "?consistent", "", api.CodeInvalid},
		"wait":               {"GET", all + "/" + apitest.LeaseID + "?wait=3", "", api.CodeInvalid},
		"unknown parameter":  {"GET", all + "?held=true", "", api.CodeInvalid},
		"rebuild, no object": {"POST", all + "/rebuild", "[]", api.CodeInvalid},
		"rebuild, no such":   {"POST", "/v1/domains/none/leases/rebuild", "{}", api.CodeNotFound},
		"no such method":     {"PUT", all, "{}", api.CodeMethod},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, _ := local(t)
			var body any
			if tc.method != "GET" {
				body = tc.body
			}
			wantCode(t, j.send(t, request(t, tc.method, tc.path, body)), tc.code)
		})
	}
}

func TestLeases_answers(t *testing.T) {
	t.Parallel()
	j, _ := local(t)
	const all = "/v1/domains/san1/leases"
	if l := want[api.LeaseCreated](t, j.send(t, request(t, "POST", all, api.LeaseCreate{ID: strings.ToUpper(apitest.LeaseID)})), 200); l.Created || l.ID != apitest.LeaseID || l.Domain != apitest.DomainID {
		t.Errorf("one that exists: %+v", l)
	}
	e := wantCode(t, j.send(t, request(t, "DELETE", all+"/"+apitest.LeaseID, nil)), api.CodeBusy)
	if e.Holder != "h2" || e.NextStep == "" {
		t.Errorf("delete of a held lease: %+v", e)
	}
	if l := want[api.LeaseDeleted](t, j.send(t, request(t, "DELETE", all+"/9d1f0c52-51d1-4f0e-8d2b-7d5a0f3f2b02", nil)), 200); l.Deleted {
		t.Errorf("one that is not there: %+v", l)
	}
	if l := want[[]api.Lease](t, j.send(t, request(t, "GET", "/v1/domains/"+apitest.DomainID+"/leases", nil)), 200); len(l) != 4 || len(l[2].Sharers) != 2 || l[1].Start == nil || l[1].Start.In != 50 || l[3].Start.Proof == nil {
		t.Errorf("%+v", l)
	}
}
