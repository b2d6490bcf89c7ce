package mailbox

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/faulty"
	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// lostPage asks while the storage loses the host's next page without a word.
func lostPage(t *testing.T, bugs plant.Bugs) (took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bugs, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		dev := faulty.New(p.inbox)
		p.host.cfg.Inbox = dev
		p.run(t, func(ctx context.Context) {
			time.Sleep(time.Second)
			dev.Inject(faulty.Fault{Ops: faulty.Write, Off: 7 * pageSize, Len: pageSize, Count: 1, Drop: true})
			start := time.Now()
			err = p.host.Extend(ctx, Message{SizeMiB: 1})
			took = time.Since(start)
		})
	})
	return took, err
}

// TestHost_lostPage: what got lost is written again in seconds.
func TestHost_lostPage(t *testing.T) {
	t.Parallel()
	if took, err := lostPage(t, plant.Bugs{}); err != nil || took > 3*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if _, err := lostPage(t, plant.Bugs{WriteOnce: true}); !errors.Is(err, ErrWithdrawn) {
		t.Errorf("planted: %v", err)
	}
}

// oldLife asks in all slots' place where an earlier life has asked for the same volume, whose failure is answered late.
func oldLife(t *testing.T, bugs plant.Bugs) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bugs, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		old, failures := make([]byte, pageSize), make([]byte, pageSize)
		for i := range slotCount {
			fill(slotOf(old, i), Slot{State: Asking, Message: Message{SizeMiB: 5}})
			fill(slotOf(failures, i), Slot{State: Asking})
		}
		sealPage(old)
		p.inbox.SetBytes(7*pageSize, old)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.host.Run(ctx) }()
		time.AfterFunc(5*time.Second, func() { p.outbox.SetBytes(7*pageSize, failures) })
		patience, cancel2 := context.WithTimeout(ctx, 20*time.Second)
		defer cancel2()
		err = p.host.Extend(patience, Message{SizeMiB: 6})
		cancel()
		<-done
	})
	return err
}

// TestHost_oldLife: an answer to what an earlier life asked is nobody's.
func TestHost_oldLife(t *testing.T) {
	t.Parallel()
	if err := oldLife(t, plant.Bugs{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := oldLife(t, plant.Bugs{ForgetOldLife: true}); !errors.Is(err, ErrRefused) {
		t.Errorf("planted: %v", err)
	}
}

// lateAnswer asks twice where there is no SPM, and the first request is answered when it has been withdrawn and the second
// one waits.
func lateAnswer(t *testing.T, bugs plant.Bugs) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bugs, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		late := make([]byte, pageSize)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.host.Run(ctx) }()
		time.AfterFunc(5*time.Second, func() {
			for i := range slotCount {
				if stateOf(p.inbox.Bytes(7*pageSize+int64(i)*slotSize, slotSize)) == Asking {
					fill(slotOf(late, i), Slot{State: Asking, Message: Message{Volume: UUID{1}}})
				}
			}
		})
		if err := p.host.Extend(ctx, Message{Volume: UUID{1}, SizeMiB: 6}); !errors.Is(err, ErrWithdrawn) {
			t.Error("the first request: ", err)
		}
		time.AfterFunc(5*time.Second, func() { p.outbox.SetBytes(7*pageSize, late) })
		patience, cancel2 := context.WithTimeout(ctx, 20*time.Second)
		defer cancel2()
		err = p.host.Extend(patience, Message{Volume: UUID{1}, SizeMiB: 8})
		cancel()
		<-done
	})
	return err
}

// TestHost_lateAnswer: an answer to what was withdrawn is not taken for the answer to what was asked after it.
func TestHost_lateAnswer(t *testing.T) {
	t.Parallel()
	if err := lateAnswer(t, plant.Bugs{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := lateAnswer(t, plant.Bugs{ReuseAtOnce: true}); !errors.Is(err, ErrRefused) {
		t.Errorf("planted: %v", err)
	}
}

// silentHost is how long a host waits that never rings: the first time, and from then on.
func silentHost(t *testing.T, bugs plant.Bugs) (waits [2]time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bugs, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.server.Run(ctx) }()
		time.Sleep(time.Second)
		for i := range waits {
			page := make([]byte, pageSize)
			fill(slotOf(page, i), Slot{State: Asking, Message: Message{SizeMiB: 5}})
			sealPage(page)
			p.inbox.SetBytes(7*pageSize, page)
			start := time.Now()
			for stateOf(p.outbox.Bytes(7*pageSize+int64(i)*slotSize, slotSize)) == Empty && time.Since(start) < time.Minute {
				time.Sleep(10 * time.Millisecond)
			}
			waits[i] = time.Since(start)
		}
		cancel()
		<-done
	})
	return waits
}

// TestServer_silentHost: who never rings is served, and soon once he is known.
func TestServer_silentHost(t *testing.T) {
	t.Parallel()
	if w := silentHost(t, plant.Bugs{}); w[0] > 10200*time.Millisecond || w[1] > 2200*time.Millisecond {
		t.Error(w)
	}
	if w := silentHost(t, plant.Bugs{TrustEvents: true}); w[0] < time.Minute {
		t.Error("planted: ", w)
	}
}

// askAlone asks where there is no SPM; what is put into each slot of its page after 5 s is all that comes.
func askAlone(t *testing.T, bugs plant.Bugs, answer Message) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bugs, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		answers := make([]byte, pageSize)
		for i := range slotCount {
			fill(slotOf(answers, i), Slot{State: Asking, Message: answer})
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.host.Run(ctx) }()
		time.AfterFunc(5*time.Second, func() { p.outbox.SetBytes(7*pageSize, answers) })
		patience, cancel2 := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel2()
		err = p.host.Extend(patience, Message{Volume: UUID{1}, SizeMiB: 6})
		cancel()
		<-done
	})
	return err
}

// TestHost_otherAnswer: only an answer for the same domain, volume and size counts; without one the request is withdrawn.
func TestHost_otherAnswer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]Message{
		"another size":   {Volume: UUID{1}, SizeMiB: 5},
		"another volume": {Volume: UUID{2}, SizeMiB: 6},
		"another domain": {Domain: UUID{1}, Volume: UUID{1}, SizeMiB: 6},
		"another's no":   {Volume: UUID{2}},
	} {
		if err := askAlone(t, plant.Bugs{}, answer); !errors.Is(err, ErrWithdrawn) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := askAlone(t, plant.Bugs{MatchVolumeOnly: true}, Message{Volume: UUID{1}, SizeMiB: 5}); err != nil {
		t.Errorf("planted: %v", err)
	}
	if err := askAlone(t, plant.Bugs{NeverWithdraw: true}, Message{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("planted: %v", err)
	}
}

// lostAnswer has the storage lose the SPM's write number n after the request, which is the answer or the acknowledgement,
// and tells whether all slots are free again in time.
func lostAnswer(t *testing.T, bugs plant.Bugs, n int) (free bool, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bugs, noEdit, extendFunc(func(context.Context, Request) error { return nil }))
		dev := faulty.New(p.outbox)
		p.server.outbox = blockdev.NewGuarded(dev, p.guard)
		p.run(t, func(ctx context.Context) {
			time.Sleep(time.Second)
			dev.Inject(faulty.Fault{Ops: faulty.Write, After: n, Count: 1, Drop: true})
			patience, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			err = p.host.Extend(patience, Message{SizeMiB: 1})
			time.Sleep(20 * time.Second)
			st := p.host.Stats()
			free = st.SlotsAsked+st.SlotsCleaned == 0
		})
	})
	return free, err
}

// TestServer_lostAnswer: an answer and an acknowledgement that got lost are written again.
func TestServer_lostAnswer(t *testing.T) {
	t.Parallel()
	for n, bugs := range []plant.Bugs{{AnswerOnce: true}, {AckOnce: true}} {
		if free, err := lostAnswer(t, plant.Bugs{}, n); !free || err != nil {
			t.Errorf("write %d: free %v, %v", n, free, err)
		}
		if free, _ := lostAnswer(t, bugs, n); free {
			t.Errorf("planted %+v: not seen", bugs)
		}
	}
}
