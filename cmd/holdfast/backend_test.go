package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

func TestApiError_codes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"outcome unknown wins over what caused it":     {errors.Join(blockdev.ErrLeaseLost, blockdev.ErrOutcomeUnknown), api.CodeOutcomeUnknown},
		"unknown outcome with a time-out":              {fmt.Errorf("%w: %w", context.DeadlineExceeded, blockdev.ErrOutcomeUnknown), api.CodeOutcomeUnknown},
		"not the SPM":                                  {&spm.NotSPMError{Holder: "h2", Epoch: 7}, api.CodeNotSPM},
		"a domain that is down, whatever the cause":    {fmt.Errorf("%w: %w", spm.ErrDomainDown, blockdev.ErrLeaseLost), api.CodeUnavailable},
		"a regained domain without the cluster's word": {fmt.Errorf("%w: %w", spm.ErrDomainDown, spm.ErrMasterUnconfirmed), api.CodeUnavailable},
		"name taken":                          {fmt.Errorf("creating: %w", domain.ErrNameTaken), api.CodeNameTaken},
		"full":                                {domain.ErrFull, api.CodeNoSpace},
		"being deleted":                       {domain.ErrBusy, api.CodeBusy},
		"foreign data":                        {&domain.InUseError{Device: "/dev/x", Found: "ext4", Name: "ext4"}, api.CodeForeignSignature},
		"used token":                          {&fsm.RefusedError{Code: fsm.CodeTokenUsed, Message: "used"}, api.CodeTokenInvalid},
		"a lease under another call":          {fmt.Errorf("acquiring: %w", leases.ErrBusy), api.CodeBusy},
		"a keeper that was killed":            {fmt.Errorf("acquiring: %w", keeper.ErrGone), api.CodeUnavailable},
		"the LUN fails":                       {fmt.Errorf("read 512 bytes: nbd server: %w", unix.EIO), api.CodeDevice},
		"a full local disk":                   {fmt.Errorf("%w: %w", attach.ErrNotRecorded, syscall.ENOSPC), api.CodeUnavailable},
		"a LUN that is a file on a full disk": {fmt.Errorf("%w: write: %w", blockdev.ErrOutcomeUnknown, syscall.ENOSPC), api.CodeOutcomeUnknown},
		"detached, the LUN is gone":           {fmt.Errorf("volume v is %w: %w", attach.ErrUnflushed, errors.New("flush: EIO")), api.CodeDevice},
		"the SPM's storage is not up":         {&transport.RemoteError{Host: "h3", Code: transport.ErrorCode(host.ErrNoStorage), Message: "not up"}, api.CodeUnavailable},
		"time-out":                            {context.DeadlineExceeded, api.CodeTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *api.Error
			if !errors.As(apiError(c.err), &e) || e.Code != c.code {
				t.Fatalf("%v became %v, want %s", c.err, e, c.code)
			}
		})
	}
}

func TestApiError_notSPMNamesTheHolder(t *testing.T) {
	t.Parallel()
	var e *api.Error
	if !errors.As(apiError(fmt.Errorf("x: %w", &spm.NotSPMError{Holder: "h2", Epoch: 7})), &e) || e.Holder != "h2" || e.Epoch != 7 {
		t.Fatalf("%+v", e)
	}
	if e.RetryAfter <= 0 {
		t.Error("says nothing about when to try again")
	}
}

func TestApiError_keepsWhatIsDressed(t *testing.T) {
	t.Parallel()
	in := api.Errorf(api.CodeBusy, "wait", "busy")
	if got := apiError(in); !errors.Is(got, in) {
		t.Fatalf("%v", got)
	}
	plain := errors.New("odd")
	var dressed *api.Error
	if got := apiError(plain); !errors.Is(got, plain) || errors.As(got, &dressed) {
		t.Fatalf("an unknown error must stay one, so that the API calls it internal: %v", got)
	}
}

// state builds a replicated state from commands.
func state(t *testing.T, cmds ...fsm.Command) *fsm.State {
	t.Helper()
	f := fsm.New()
	for i, c := range cmds {
		b, err := fsm.Encode(c, "")
		if err != nil {
			t.Fatal(err)
		}
		if out, ok := f.Apply(uint64(i+1), b).(fsm.Outcome); !ok || out.Err() != nil {
			t.Fatalf("command %d: %+v", i, out)
		}
	}
	return f.View()
}

func poolState(t *testing.T) *fsm.State {
	return state(t,
		&fsm.ClusterInit{ClusterID: "c", ClusterName: "c", Version: 1, Host: fsm.Host{Name: "h1", State: fsm.HostUp}, Time: 1},
		&fsm.PoolCreate{Pool: fsm.Pool{ID: "p", Name: "p", Master: "d1"}, Time: 1},
		&fsm.DomainPut{Domain: fsm.Domain{ID: "d1", Name: "data", Role: "master", Size: 1000, Free: 50}},
		&fsm.DomainPut{Domain: fsm.Domain{ID: "d2", Name: "more", Role: "regular", Size: 1000, Free: 900}},
		&fsm.VolumesPut{Volumes: []fsm.Volume{
			{ID: "v1", Domain: "d1", Name: "a", Created: time.Unix(5, 0).UnixNano()}, {ID: "v2", Domain: "d1", Name: "same"}, {ID: "v3", Domain: "d2", Name: "same"}}},
	)
}

func TestFindVolume(t *testing.T) {
	t.Parallel()
	st := poolState(t)
	if v, err := findVolume(st, "a"); err != nil || v.ID != "v1" {
		t.Errorf("by name: %v %v", v.ID, err)
	}
	if v, err := findVolume(st, "v3"); err != nil || v.ID != "v3" {
		t.Errorf("by id: %v %v", v.ID, err)
	}
	var e *api.Error
	if _, err := findVolume(st, "same"); !errors.As(err, &e) || e.Code != api.CodeConflict {
		t.Errorf("a name that fits two: %v", err)
	}
	if _, err := findVolume(st, "none"); !errors.As(err, &e) || e.Code != api.CodeNotFound {
		t.Errorf("a name that fits none: %v", err)
	}
}

func TestNamedOnDisk(t *testing.T) {
	t.Parallel()
	vols := []domain.Volume{{ID: "i1", Name: "a", State: domain.StateRemoving}, {ID: "i2", Name: "a", State: domain.StateOK},
		{ID: "i3", Name: "b", State: domain.StateOK}, {ID: "i4", Name: "b", State: domain.StateOK}}
	if id, err := namedOnDisk(vols, "a"); id != "i2" || err != nil {
		t.Errorf("got %q, %v; want the one that is not being removed", id, err)
	}
	if id, err := namedOnDisk(vols, "c"); id != "" || err != nil {
		t.Errorf("got %q, %v for a name that nobody has", id, err)
	}
	var e *api.Error
	if id, err := namedOnDisk(vols, "b"); id != "" || !errors.As(err, &e) || e.Code != api.CodeConflict {
		t.Errorf("got %q, %v for a name that two have", id, err)
	}
}

// A name that only the mirror still knows is nobody's: the volume must not be changed or deleted by it.
func TestRenamed(t *testing.T) {
	t.Parallel()
	vols := []domain.Volume{{ID: "i1", Name: "new", State: domain.StateOK}, {ID: "i2", Name: "", State: domain.StateUnreadable}}
	for id, want := range map[string]bool{"i1": true, "i2": false, "i3": false} {
		if got := renamed(vols, fsm.Volume{ID: id, Name: "old"}); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
	if renamed(vols, fsm.Volume{ID: "i1", Name: "new"}) {
		t.Error("it is called so")
	}
}

// failing is a RoundTripper that answers with an error.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// A host that ends in the middle of the handshake has got nothing; one that had a connection may have.
func TestUnsent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		sure bool
	}{
		"handshake": {fmt.Errorf("call: %w: TLS: %w", cluster.ErrUnreachable, syscall.ECONNRESET), true},
		"lost":      {fmt.Errorf("call: %w: %w", cluster.ErrOutcomeUnknown, syscall.ECONNRESET), false},
		"both":      {errors.Join(cluster.ErrOutcomeUnknown, cluster.ErrUnreachable), false},
	} {
		_, err := unsent{failing{c.err}}.RoundTrip(nil)
		if errors.Is(err, httpapi.ErrNotSent) != c.sure || !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDomainToServe(t *testing.T) {
	t.Parallel()
	st := poolState(t)
	for in, want := range map[string]string{"": "", "more": "d2", "fresh": "fresh"} {
		if got, err := domainToServe(st, in); err != nil || got != want {
			t.Errorf("domainToServe(%q) = %q, %v", in, got, err)
		}
	}
}

func TestDomainID(t *testing.T) {
	t.Parallel()
	st := poolState(t)
	for in, want := range map[string]string{"": "", "more": "d2", "D1": "d1"} {
		if got, err := domainID(st, in); err != nil || got != want {
			t.Errorf("domainID(%q) = %q, %v", in, got, err)
		}
	}
	var e *api.Error
	if _, err := domainID(st, "none"); !errors.As(err, &e) || e.Code != api.CodeNotFound {
		t.Errorf("a domain that does not exist: %v", err)
	}
}

func TestDomainsOf_masterFirstWithCounts(t *testing.T) {
	t.Parallel()
	d := domainsOf(poolState(t))
	if len(d) != 2 || d[0].ID != "d1" || d[0].Volumes != 2 || d[1].Volumes != 1 {
		t.Fatalf("%+v", d)
	}
}

func TestWarnings_sayWhatIsNotWell(t *testing.T) {
	t.Parallel()
	st := poolState(t)
	subjects := map[string]bool{}
	for _, w := range warnings(st, []api.Host{{Name: "h1", State: fsm.HostUp}, {Name: "h2", State: "down"}}, "") {
		subjects[w.Subject] = true
	}
	for _, want := range []string{"raft", "spm", "host/h2", "domain/data"} {
		if !subjects[want] {
			t.Errorf("no warning about %s: %v", want, subjects)
		}
	}
	if subjects["host/h1"] || subjects["domain/more"] {
		t.Errorf("warns about what is well: %v", subjects)
	}
}

func TestApiVolume_times(t *testing.T) {
	t.Parallel()
	v, err := findVolume(poolState(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	if got := apiVolume(v).Created; !got.Equal(time.Unix(5, 0)) {
		t.Errorf("created %v", got)
	}
}

// A path that fails says nothing of a lease: nobody must be led to rebuild what is whole.
func TestApiLease_unreadableIsNotDamaged(t *testing.T) {
	t.Parallel()
	st := &fsm.State{}
	for want, err := range map[string]error{
		api.LeaseUnreadable: fmt.Errorf("reading resource: nbd server: %w", unix.EIO),
		api.LeaseDamaged:    fmt.Errorf("reading resource: %w", leases.ErrCorrupt),
	} {
		if l := apiLease(st, "d", &xlease.Status{Err: err}); l.Status != want || l.Reason == "" {
			t.Errorf("%v became %s: %q", err, l.Status, l.Reason)
		}
	}
}
