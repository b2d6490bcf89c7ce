package extend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/cluster/transport"
	"github.com/holdfast-io/holdfast/mailbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	dom = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	vol = "11111111-0000-4000-8000-000000000001"
	gib = 1 << 30
)

// script is what a way does with a request.
type script struct {
	after time.Duration // until the answer; below 0 there is none
	err   error
	reply spm.ExtendReply
}

// ways are both ways of a fake SPM.
type ways struct {
	mu        sync.Mutex
	rpc, mail script
	spm       string
	calls     []spm.ExtendRequest
	asks      []mailbox.Message
	at        []time.Duration // when the mailbox was asked
	begun     time.Time
}

func (w *ways) play(ctx context.Context, s script) error {
	var after <-chan time.Time
	if s.after >= 0 {
		after = time.After(s.after)
	}
	select {
	case <-after:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *ways) Call(ctx context.Context, host, method string, in, out any) error {
	if host != "h1" || method != spm.MethodExtend {
		return fmt.Errorf("called %s of %q", method, host)
	}
	w.mu.Lock()
	w.calls = append(w.calls, in.(spm.ExtendRequest))
	s := w.rpc
	w.mu.Unlock()
	*out.(*spm.ExtendReply) = s.reply
	return w.play(ctx, s)
}

func (w *ways) Extend(ctx context.Context, m mailbox.Message) error {
	w.mu.Lock()
	w.asks, w.at = append(w.asks, m), append(w.at, time.Since(w.begun))
	s := w.mail
	w.mu.Unlock()
	return w.play(ctx, s)
}

func (w *ways) set(rpc, mail script) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rpc, w.mail = rpc, mail
	w.calls, w.asks, w.at, w.begun = nil, nil, nil, time.Now()
}

func (w *ways) used() (calls, asks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls), len(w.asks)
}

// bubble runs fn with an Extender under virtual time.
func bubble(t *testing.T, fn func(t *testing.T, w *ways, e *Extender)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &ways{spm: "h1", begun: time.Now()}
		e, err := New(Config{RPC: w, Mailbox: w, SPM: func() string { w.mu.Lock(); defer w.mu.Unlock(); return w.spm }})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		fn(t, w, e)
	})
}

const never = -1

var (
	errCut     = fmt.Errorf("dial: %w", transport.ErrUnreachable)
	notSPM     = spm.ExtendReply{Refused: "not_spm", Message: "its role is none"}
	outOfSpace = spm.ExtendReply{Refused: "out_of_space", Queued: true, Message: "5 needed, 4 free"}
)

func TestExtender_ways(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rpc, mail script
		nobody    bool // is known to be the SPM
		want      error
		took      time.Duration
		asked     bool // through the storage
	}{
		"the network answers":                        {rpc: script{after: 30 * time.Millisecond}, mail: script{after: never}, took: 30 * time.Millisecond},
		"it answers late, but first":                 {rpc: script{after: 150 * time.Millisecond}, mail: script{after: time.Second}, took: 150 * time.Millisecond, asked: true},
		"it hangs":                                   {rpc: script{after: never}, mail: script{after: 120 * time.Millisecond}, took: 220 * time.Millisecond, asked: true},
		"it is cut":                                  {rpc: script{err: errCut}, mail: script{after: 120 * time.Millisecond}, took: 120 * time.Millisecond, asked: true},
		"nobody is known to be SPM":                  {nobody: true, mail: script{after: 120 * time.Millisecond}, took: 120 * time.Millisecond, asked: true},
		"the host asked is not SPM any more":         {rpc: script{reply: notSPM}, mail: script{after: 2 * time.Second}, took: 2 * time.Second, asked: true},
		"the SPM failed, and says nothing":           {rpc: script{err: &transport.RemoteError{Message: "EIO"}}, mail: script{after: time.Second}, took: time.Second, asked: true},
		"out of space":                               {rpc: script{reply: outOfSpace}, mail: script{after: never}, want: domain.ErrNoSpace},
		"no such volume":                             {rpc: script{reply: spm.ExtendReply{Refused: "not_found"}}, mail: script{after: never}, want: domain.ErrNotFound},
		"too large":                                  {rpc: script{reply: spm.ExtendReply{Refused: "invalid"}}, mail: script{after: never}, want: spm.ErrInvalid},
		"the storage refuses and the network is cut": {rpc: script{err: errCut}, mail: script{after: time.Second, err: mailbox.ErrRefused}, want: mailbox.ErrRefused, took: time.Second, asked: true},
		"the storage refuses and the network says why": {rpc: script{after: 1500 * time.Millisecond, reply: outOfSpace}, mail: script{after: time.Second, err: mailbox.ErrRefused},
			want: domain.ErrNoSpace, took: 1500 * time.Millisecond, asked: true},
		"the storage refuses and the network hangs": {rpc: script{after: never}, mail: script{after: time.Second, err: mailbox.ErrRefused},
			want: mailbox.ErrRefused, took: 2100 * time.Millisecond, asked: true},
		"neither answers": {rpc: script{after: never}, mail: script{after: never}, want: ErrNoAnswer, took: 90 * time.Second, asked: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *ways, e *Extender) {
				w.set(c.rpc, c.mail)
				if c.nobody {
					w.spm = ""
				}
				begun := time.Now()
				err := e.Extend(t.Context(), dom, vol, gib+1)
				if !errors.Is(err, c.want) || time.Since(begun) != c.took {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(begun), c.want, c.took)
				}
				calls, asks := w.used()
				if (calls > 0) == c.nobody || (asks > 0) != c.asked || calls > 1 || asks > 1 {
					t.Errorf("%d calls, %d asked through the storage", calls, asks)
				}
				for _, m := range w.asks {
					if m.SizeMiB != 1025 || m.Volume.String() != vol || m.Domain.String() != dom {
						t.Errorf("asked for %v", m)
					}
				}
				for _, q := range w.calls {
					if q.Size != gib+1 || q.Volume != vol || q.Domain != dom || !q.Unmirrored {
						t.Errorf("called for %+v", q)
					}
				}
			})
		})
	}
}

// The storage alone is asked at once, however well the network is.
func TestExtender_storageOnly(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *ways, e *Extender) {
		w.set(script{}, script{after: 120 * time.Millisecond})
		begun := time.Now()
		err := e.Ask(t.Context(), Request{Domain: dom, Volume: vol, Size: gib, StorageOnly: true})
		if calls, asks := w.used(); err != nil || calls != 0 || asks != 1 || time.Since(begun) != 120*time.Millisecond {
			t.Errorf("%v after %v: %d calls, %d asked", err, time.Since(begun), calls, asks)
		}
		w.set(script{}, script{err: mailbox.ErrRefused})
		if err := e.Ask(t.Context(), Request{Domain: dom, Volume: vol, Size: gib, StorageOnly: true}); !errors.Is(err, mailbox.ErrRefused) {
			t.Errorf("refused: %v", err)
		}
	})
}

// While the network does not answer nobody waits for it before the storage is asked; once it does the storage rests.
func TestExtender_silentNetwork(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *ways, e *Extender) {
		ask := func() time.Duration {
			begun := time.Now()
			if err := e.Extend(t.Context(), dom, vol, gib); err != nil {
				t.Error(err)
			}
			return time.Since(begun)
		}
		w.set(script{after: time.Second, err: transport.ErrOutcomeUnknown}, script{after: 1200 * time.Millisecond})
		ask()
		if !e.Stats().NetworkBad {
			t.Fatal("a call without an answer was not noticed")
		}
		w.set(script{after: never}, script{after: 120 * time.Millisecond})
		if took := ask(); took != 120*time.Millisecond {
			t.Errorf("%v: the network was waited for", took)
		}
		w.set(script{after: 10 * time.Millisecond}, script{after: 120 * time.Millisecond})
		if took := ask(); took != 10*time.Millisecond || e.Stats().NetworkBad {
			t.Errorf("%v, %+v", took, e.Stats())
		}
		w.set(script{after: 10 * time.Millisecond}, script{after: never})
		if ask(); len(w.asks) > 0 {
			t.Error("the storage was asked although the network answers")
		}
		if s := e.Stats(); s.Requests != 4 || s.ByMailbox != 2 || s.ByRPC != 2 || s.Failed != 0 || s.UnderWay != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Equal requests are one; a paused guest's is another, and so is one for another size.
func TestExtender_equalRequestsShare(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *ways, e *Extender) {
		w.set(script{after: 50 * time.Millisecond}, script{after: never})
		var wg sync.WaitGroup
		for i := range 30 {
			r := Request{Domain: dom, Volume: vol, Size: gib - int64(i)}
			switch {
			case i >= 20:
				r.Size = 2 * gib
			case i >= 10:
				r.Paused = true
			}
			wg.Go(func() {
				if err := e.Ask(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if calls, _ := w.used(); calls != 3 {
			t.Errorf("%d calls", calls)
		}
	})
}

// Who gives up takes nothing from the others, nor from the volume.
func TestExtender_callerGivesUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *ways, e *Extender) {
		w.set(script{after: 80 * time.Millisecond}, script{after: never})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		other := make(chan error, 1)
		go func() { other <- e.Extend(t.Context(), dom, vol, gib) }()
		if err := e.Extend(ctx, dom, vol, gib); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := <-other; err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.ByRPC != 1 || s.Requests != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestExtender_close(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *ways, e *Extender) {
		w.set(script{after: never}, script{after: never})
		answer := make(chan error, 1)
		go func() { answer <- e.Extend(t.Context(), dom, vol, gib) }()
		time.Sleep(time.Second)
		e.Close()
		if err := <-answer; !errors.Is(err, ErrClosed) {
			t.Errorf("under way: %v", err)
		}
		if err := e.Extend(t.Context(), dom, vol, gib); !errors.Is(err, ErrClosed) {
			t.Errorf("later: %v", err)
		}
	})
}

func TestExtender_refusesNonsense(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *ways, e *Extender) {
		for name, r := range map[string]Request{
			"no size": {Domain: dom, Volume: vol}, "negative": {Domain: dom, Volume: vol, Size: -1}, "beyond the mailbox": {Domain: dom, Volume: vol, Size: 1<<52 + 1},
			"no domain": {Volume: vol, Size: gib}, "no UUID": {Domain: dom, Volume: "web", Size: gib}, "waits for ever": {Domain: dom, Volume: vol, Size: gib, Wait: time.Hour},
		} {
			if err := e.Ask(t.Context(), r); !errors.Is(err, spm.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if calls, asks := w.used(); calls+asks > 0 {
			t.Error("it was asked for all the same")
		}
	})
}
