package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
)

// Attachments makes volumes usable on this host. The host that a request names is found in this package.
type Attachments interface {
	// AttachVolume returns where the volume is; one that is attached so already is answered as it is.
	AttachVolume(ctx context.Context, idOrName string, req api.VolumeAttach) (api.Attachment, error)
	DetachVolume(ctx context.Context, idOrName string, req api.VolumeDetach) (api.VolumeDetached, error)
	// SnapshotVolume puts a new leaf on one that is attached on this host, under its guest, and returns where that is. The same key
	// again is the same snapshot.
	SnapshotVolume(ctx context.Context, idOrName string, req api.VolumeSnapshot, key string) (api.Attachment, error)
	// Attachments lists what is attached on this host.
	Attachments(ctx context.Context) ([]api.Attachment, error)
}

// hostOf is the host that a request names; empty: the one that was asked.
func hostOf(r *http.Request) string { return r.URL.Query().Get("host") }

// checkHostQuery refuses other parameters, and what is no host's name.
func checkHostQuery(r *http.Request) error {
	if err := exactQuery(r, "host"); err != nil {
		return err
	}
	return checkHostRef(hostOf(r))
}

// checkAttach looks at an attach before it is passed on. Whoever repeats one changes nothing, so a lost answer is asked for again.
func checkAttach(r *http.Request) error {
	if err := checkHostQuery(r); err != nil {
		return err
	}
	return ensureKey(r)
}

func attachVolume(b *Backend, r *http.Request) (reply, error) {
	if err := checkAttach(r); err != nil {
		return reply{}, err
	}
	var req api.VolumeAttach
	return onVolume(b, r, &req, func(ctx context.Context, ref string) (any, error) { return b.Attachments.AttachVolume(ctx, ref, req) })
}

func detachVolume(b *Backend, r *http.Request) (reply, error) {
	if err := checkHostQuery(r); err != nil {
		return reply{}, err
	}
	var req api.VolumeDetach
	return onVolume(b, r, &req, func(ctx context.Context, ref string) (any, error) { return b.Attachments.DetachVolume(ctx, ref, req) })
}

func snapshotVolume(b *Backend, r *http.Request) (reply, error) {
	if err := checkAttach(r); err != nil {
		return reply{}, err
	}
	var req api.VolumeSnapshot
	return onVolume(b, r, &req, func(ctx context.Context, ref string) (any, error) {
		return b.Attachments.SnapshotVolume(ctx, ref, req, r.Header.Get(api.HeaderIdempotency))
	})
}

// onVolume does what attach and detach have in common.
func onVolume(b *Backend, r *http.Request, req any, do func(ctx context.Context, ref string) (any, error)) (reply, error) {
	ref, err := pathVar(r, "id")
	if err != nil {
		return reply{}, err
	}
	if err := decode(r, req); err != nil {
		return reply{}, err
	}
	if b.Attachments == nil {
		return reply{}, notMember()
	}
	v, err := do(r.Context(), ref)
	if err != nil {
		return reply{}, err
	}
	return reply{body: v}, nil
}

// silence is how long the other hosts have to say what is attached there.
const silence = 2 * time.Second

// listAttachments asks the host that is named, or all.
func listAttachments(h *Handler, w http.ResponseWriter, r *http.Request) {
	b := h.backend.Load()
	out, err := h.attachments(b, r)
	if err != nil {
		writeProblem(w, problemOf(err, r.Method))
		return
	}
	writeReply(w, reply{body: out})
}

func (h *Handler) attachments(b *Backend, r *http.Request) (api.Attachments, error) {
	if err := checkHostQuery(r); err != nil {
		return api.Attachments{}, err
	}
	if b.Attachments == nil || b.Hosts == nil {
		return api.Attachments{}, notMember()
	}
	own, err := b.Attachments.Attachments(r.Context())
	if err != nil {
		return api.Attachments{}, err
	}
	out := api.Attachments{Attachments: noNil(own)}
	if hostOf(r) != "" || b.Forwarder == nil {
		return out, nil // of this host: a request for another one was passed on
	}
	hosts, err := b.Hosts.Hosts(r.Context())
	if err != nil {
		return out, err
	}
	h.askOthers(b, r, hosts, &out)
	return out, nil
}

// askOthers asks all other hosts at the same time.
func (h *Handler) askOthers(b *Backend, r *http.Request, hosts []api.Host, out *api.Attachments) {
	ctx, cancel := context.WithTimeout(r.Context(), silence)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex // guards out
	for _, o := range hosts {
		if o.Name == h.cfg.Host {
			continue
		}
		all.Go(func() {
			l, err := h.askHost(b, r.Clone(ctx), o.Name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.cfg.Log.Debug("host does not say what is attached there", "host", o.Name, "error", err)
				out.Silent = append(out.Silent, o.Name)
				return
			}
			out.Attachments = append(out.Attachments, l...)
		})
	}
	all.Wait()
	slices.Sort(out.Silent)
	slices.SortFunc(out.Attachments, func(x, y api.Attachment) int {
		return strings.Compare(x.Name+" "+x.Volume+" "+x.Host, y.Name+" "+y.Volume+" "+y.Host)
	})
}

// askHost asks one host for its own.
func (h *Handler) askHost(b *Backend, r *http.Request, host string) ([]api.Attachment, error) {
	q := r.URL.Query()
	q.Set("host", host)
	u := *r.URL
	u.RawQuery = q.Encode()
	r.URL = &u
	j := &journey{policy: h.policy, fw: b.Forwarder, need: needHost, r: r}
	a, err := j.attempt(Target{Host: host})
	if err != nil {
		return nil, err
	}
	if e := a.problem(); e != nil {
		return nil, e
	}
	var l api.Attachments
	if err := json.Unmarshal(a.body.Bytes(), &l); err != nil {
		return nil, err
	}
	return l.Attachments, nil
}

// knownHost refuses a host that is no member, before anybody waits for it.
func knownHost(b *Backend, r *http.Request) error {
	if b.Hosts == nil {
		return notMember()
	}
	hosts, err := b.Hosts.Hosts(r.Context())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(hosts, func(h api.Host) bool { return h.Name == hostOf(r) }) {
		return api.Errorf(api.CodeNotFound, "holdfast host list shows the hosts", "no host is called %q", hostOf(r))
	}
	return nil
}
