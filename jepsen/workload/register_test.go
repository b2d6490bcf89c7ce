package workload

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// texts is a pool that knows volumes by name and nothing else. With forgets it acknowledges descriptions and drops them.
type texts struct {
	forgets bool
	mu      sync.Mutex // guards all below
	index   uint64
	vols    map[string]api.Volume
}

// ServeHTTP makes a volume, or shows one.
func (s *texts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		var req api.VolumeCreate
		_ = json.NewDecoder(r.Body).Decode(&req) // what cannot be read is a volume without a name, which the checkers find
		s.index++
		v := api.Volume{ID: uuid.NewString(), Name: req.Name, Description: req.Description, Epoch: 1}
		s.vols[v.Name] = v
		_ = json.NewEncoder(w).Encode(api.VolumeCreated{Volume: v, Mirrored: true, Index: s.index})
		return
	}
	v, ok := s.vols[strings.TrimPrefix(r.URL.Path, "/v1/volumes/")]
	if !ok {
		w.Header().Set("Content-Type", api.ProblemType)
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(api.Errorf(api.CodeNotFound, "", "no such volume"))
		return
	}
	w.Header().Set(api.HeaderIndex, strconv.FormatUint(s.index, 10))
	_ = json.NewEncoder(w).Encode(v)
}

// DescribeVolume makes it a Describer.
func (s *texts) DescribeVolume(_ context.Context, name, text string) (Described, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vols[name]
	if s.index++; !s.forgets {
		v.Description = text
		s.vols[name] = v
	}
	return Described{ID: v.ID, Epoch: 1, Index: s.index, Mirrored: true}, nil
}

// describeFor lets clients write and read descriptions of such a pool for a while.
func describeFor(t *testing.T, s *texts) check.Record {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	folder, began := t.TempDir(), time.Now()
	log, err := history.NewLog[history.Op](folder, history.OpsFile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = Run(ctx, Config{Hosts: []Host{{Name: "h1", Client: client.Config{Address: srv.URL}}}, Began: began, Rate: 1000, Clients: 4,
		Weights:  map[string]int{history.VolumeDescribe: 1, history.VolumeShow: 2},
		Describe: func(*client.Client) Describer { return s }}, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	ops, err := history.Load[history.Op](folder, history.OpsFile)
	if err != nil {
		t.Fatal(err)
	}
	return check.Record{Run: history.Run{Least: 10}, Ops: ops}
}

func TestRun_descriptions(t *testing.T) {
	t.Parallel()
	r := describeFor(t, &texts{vols: map[string]api.Volume{}})
	for _, c := range []check.Checker{check.Enough, check.LinearRegisters, check.LinearVolumes, check.Mirrors, check.Keys} {
		if v := c(r); !v.OK {
			t.Errorf("%s: %s\n%s", v.Checker, v.Summary, strings.Join(v.Faults, "\n"))
		}
	}
}

func TestRun_descriptionsForgotten(t *testing.T) {
	t.Parallel()
	r := describeFor(t, &texts{vols: map[string]api.Volume{}, forgets: true})
	for _, c := range []check.Checker{check.LinearRegisters, check.Mirrors} {
		if v := c(r); v.OK {
			t.Errorf("%s found nothing: %s", v.Checker, v.Summary)
		}
	}
}
