package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

const (
	simPages     = 8
	simAnswer    = 5 * time.Second  // the server's AnswerWithin
	simSlack     = 4 * time.Second  // what a calm storage may add
	simForgotten = 10 * time.Second // after which an answer to what is not asked any more is wrong
)

// ran is one call of the handler.
type ran struct {
	life int
	done bool // ended
	err  error
}

// slotWatch is what was seen on the storage of one slot.
type slotWatch struct {
	msg      Message // in inbox now, if asking
	asking   bool
	since    time.Time // when asking: when it came
	answered bool      // since then
	last     map[UUID]time.Time
}

// judge sees every landed write, every call of the handler and every answer that a host took. Each request is for a size
// that was never asked for before, so nothing can be mistaken for something else without being seen.
type judge struct {
	inbox, outbox *blockdev.Mem

	mu      sync.Mutex // guards the rest
	watch   map[int]*slotWatch
	life    int            // of the SPM
	ours    bool           // the SPM of this life is ours
	calm    time.Time      // since when all is well; zero: it is not
	came    map[string]int // life and message: how often it appeared
	runs    map[Message][]*ran
	size    map[UUID]uint32 // of volumes
	next    map[UUID]uint32 // sizes to ask for
	counts  map[string]int
	broken  []string
	handled *rand.Rand
}

func newJudge(seed uint64) *judge {
	return &judge{inbox: blockdev.NewMem(simPages*pageSize, 512), outbox: blockdev.NewMem(simPages*pageSize, 512),
		watch: map[int]*slotWatch{}, came: map[string]int{}, runs: map[Message][]*ran{}, size: map[UUID]uint32{},
		next: map[UUID]uint32{}, counts: map[string]int{}, handled: rand.New(rand.NewPCG(seed, 99))}
}

func (j *judge) blame(format string, a ...any) {
	j.broken = append(j.broken, fmt.Sprintf("%s: ", time.Now().Format("04:05.000"))+fmt.Sprintf(format, a...))
}

func lifeKey(life int, m Message) string { return fmt.Sprint(life, m) }

// begin notes that an SPM starts: what is asked now appears to it.
func (j *judge) begin(ours bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.life++
	j.ours = ours
	for _, w := range j.watch {
		if w.asking {
			j.came[lifeKey(j.life, w.msg)]++
			w.since, w.answered = time.Now(), false
		}
	}
}

// inboxLanded looks what the hosts' slots say now.
func (j *judge) inboxLanded(off int64, _ []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	host := int(off / pageSize)
	if host == 0 {
		return
	}
	page := j.inbox.Bytes(off, pageSize)
	for i := range slotCount {
		id := slotID(host, i)
		m, err := DecodeMessage(slotOf(page, i))
		w := j.watch[id]
		if w == nil {
			if err != nil {
				continue
			}
			w = &slotWatch{last: map[UUID]time.Time{}}
			j.watch[id] = w
		}
		if w.asking {
			w.last[w.msg.Volume] = time.Now()
		}
		if asking := err == nil; asking && (!w.asking || w.msg != m) {
			j.came[lifeKey(j.life, m)]++
			w.msg, w.since, w.answered = m, time.Now(), false
			j.counts["appearances"]++
		}
		w.asking = err == nil
	}
}

// outboxLanded looks what the answers say now.
func (j *judge) outboxLanded(off int64, p []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for h := range len(p) / pageSize {
		host := int(off/pageSize) + h
		page := j.outbox.Bytes(int64(host)*pageSize, pageSize)
		for i := range slotCount {
			if m, err := DecodeMessage(slotOf(page, i)); err == nil {
				j.answerLanded(host, i, m)
			}
		}
	}
}

func (j *judge) answerLanded(host, i int, m Message) {
	w := j.watch[slotID(host, i)]
	switch {
	case w == nil:
		j.blame("host %d slot %d has an answer for %v but never asked", host, i, m)
	case w.asking && w.msg.answers(m):
		w.answered = true
	case !j.ours:
	case w.last[m.Volume].IsZero():
		j.blame("host %d slot %d has an answer for %v, which it never asked", host, i, m)
	case !w.asking && time.Since(w.last[m.Volume]) > simForgotten && !j.calm.IsZero() && time.Since(j.calm) > simForgotten:
		j.blame("host %d slot %d has an answer for %v, gone for %v", host, i, m, time.Since(w.last[m.Volume]))
	}
}

// look is made now and then: in calm weather every request is answered in time.
func (j *judge) look() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.calm.IsZero() || !j.ours {
		return
	}
	for id, w := range j.watch {
		from := w.since
		if j.calm.After(from) {
			from = j.calm
		}
		if w.asking && !w.answered && time.Since(from) > simAnswer+simSlack {
			j.blame("slot %d: %v has no answer after %v", id, w.msg, time.Since(from))
			w.answered = true
		}
	}
}

// ask makes a request that was never made before.
func (j *judge) ask(v UUID) Message {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next[v]++
	j.counts["asked"]++
	return Message{Domain: UUID{0xd0}, Volume: v, SizeMiB: j.next[v]}
}

// took judges what Extend said.
func (j *judge) took(m Message, asked time.Time, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	good, bad := false, time.Since(asked) >= simAnswer
	for _, r := range j.runs[m] {
		good = good || r.done && r.err == nil
		bad = bad || r.done && r.err != nil
	}
	switch {
	case err == nil:
		j.counts["done"]++
		if !good {
			j.blame("%v is said to be done and was not", m)
		}
	case errors.Is(err, ErrRefused):
		j.counts["refused"]++
		if !bad {
			j.blame("%v is said to have failed and did not", m)
		}
	case errors.Is(err, ErrWithdrawn):
		j.counts["withdrawn"]++
	}
}

// Extend is the handler of all SPMs: quick, slow, failing, or deaf to its context.
func (j *judge) Extend(ctx context.Context, r Request) error {
	run, dice, took := j.enter(r)
	switch {
	case dice < 1: // deaf
		time.Sleep(simAnswer + 6*time.Second + took)
	case dice < 4: // slow
		pause(ctx, 20*took)
	default:
		pause(ctx, took)
	}
	var err error
	if dice%10 == 1 || dice == 0 {
		err = errors.New("no space")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if run.done, run.err = true, err; err == nil {
		j.size[r.Volume] = max(j.size[r.Volume], r.SizeMiB)
	}
	return err
}

func (j *judge) enter(r Request) (*ran, int, time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	run := &ran{life: j.life}
	j.runs[r.Message] = append(j.runs[r.Message], run)
	n := 0
	for _, r := range j.runs[r.Message] {
		if r.life == j.life {
			n++
		}
	}
	if r.Host > 0 && int(r.Volume[0]) != r.Host {
		j.blame("%v is taken for host %d's", r.Message, r.Host)
	}
	if came := j.came[lifeKey(j.life, r.Message)]; j.ours && n > came {
		j.blame("%v was handled %d times and came %d times", r.Message, n, came)
	}
	j.counts["handled"]++
	return run, j.handled.IntN(100), time.Duration(j.handled.IntN(200)) * time.Millisecond
}

func (j *judge) setCalm() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calm = time.Now()
}

// wroteBeside blames whoever writes where an earlier write may still land.
func (j *judge) wroteBeside(off int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.blame("page %d is written while an earlier write may still land", off/pageSize)
}

// rest judges what is left on the storage when nobody asks any more.
func (j *judge) rest() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for h := 1; h < simPages; h++ {
		page := j.inbox.Bytes(int64(h)*pageSize, pageSize)
		if used, err := DecodeInboxPage(page); err != nil || len(used) > 0 {
			j.blame("page of host %d at the end: %v, %v", h, used, err)
		}
		answers, _ := DecodeOutboxPage(j.outbox.Bytes(int64(h)*pageSize, pageSize))
		for _, s := range answers {
			if s.State != Clean && j.ours {
				j.blame("answers for host %d at the end: %+v", h, s)
			}
		}
	}
}
