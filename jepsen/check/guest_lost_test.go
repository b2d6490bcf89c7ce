package check

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// guestScript makes the operations of one guest, one a second.
type guestScript struct {
	t   *testing.T
	all []history.Op
}

func (s *guestScript) add(kind, host string, o history.Outcome, in history.GuestInput, out history.GuestAnswer) {
	s.t.Helper()
	op := history.Op{Kind: kind, Key: "v", Host: host, Outcome: o, Call: time.Duration(len(s.all)+1) * time.Second}
	op.Return = op.Call + time.Millisecond
	var err error
	if op.Input, err = json.Marshal(in); err == nil {
		op.Output, err = json.Marshal(out)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.all = append(s.all, op)
}

func (s *guestScript) attach(host string) {
	s.add(history.GuestAttach, host, history.OK, history.GuestInput{}, history.GuestAnswer{})
}

func (s *guestScript) write(seq uint64, o history.Outcome) {
	s.add(history.GuestWrite, "", o, history.GuestInput{Block: 7, Seq: seq}, history.GuestAnswer{})
}

func (s *guestScript) flush() {
	s.add(history.GuestFlush, "", history.OK, history.GuestInput{}, history.GuestAnswer{})
}

func (s *guestScript) read(seqs ...uint64) {
	s.add(history.GuestRead, "", history.OK, history.GuestInput{Blocks: []int64{7}}, history.GuestAnswer{Seen: []history.BlockSeen{{Block: 7, Seqs: seqs}}})
}

// other is a write to another block, the fifth.
func (s *guestScript) other(o history.Outcome) {
	s.add(history.GuestWrite, "", o, history.GuestInput{Block: 8, Seq: 5}, history.GuestAnswer{})
}

func (s *guestScript) readOther(seq uint64) {
	s.add(history.GuestRead, "", history.OK, history.GuestInput{Blocks: []int64{8}}, history.GuestAnswer{Seen: []history.BlockSeen{{Block: 8, Seqs: []uint64{seq}}}})
}

// Each history is right up to its last reading, and says what is wrong with that.
func TestLostWrites(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) *guestScript {
		s := &guestScript{t: t}
		s.attach("a")
		s.write(1, history.OK)
		s.flush()
		return s
	}
	for name, c := range map[string]struct {
		do   func(*guestScript)
		want string
	}{
		"flushed and there":     {func(s *guestScript) { s.read(1) }, ""},
		"zeroes":                {func(s *guestScript) { s.read(0) }, "it has write 0 and must have write 1"},
		"newer, not flushed":    {func(s *guestScript) { s.write(2, history.OK); s.read(2) }, ""},
		"lost, not flushed":     {func(s *guestScript) { s.write(2, history.OK); s.attach("b"); s.read(1) }, ""},
		"older than flushed":    {func(s *guestScript) { s.write(2, history.OK); s.flush(); s.attach("b"); s.read(1) }, "it has write 1 and must have write 2"},
		"torn by a power cut":   {func(s *guestScript) { s.write(2, history.Unknown); s.attach("b"); s.read(2, 2, 1, 1, 1, 1, 1, 1) }, ""},
		"refused and there":     {func(s *guestScript) { s.write(2, history.Failed); s.read(2) }, "it has write 2 and must have write 1"},
		"doubt is not flushed":  {func(s *guestScript) { s.write(2, history.Unknown); s.flush(); s.read(1) }, ""},
		"late, on the same":     {func(s *guestScript) { s.write(2, history.Unknown); s.attach("a"); s.read(1); s.read(2) }, ""},
		"late, after a move":    {func(s *guestScript) { s.write(2, history.Unknown); s.attach("b"); s.read(1); s.read(2) }, "it has write 2 and must have write 1"},
		"back after a new life": {func(s *guestScript) { s.write(2, history.OK); s.attach("b"); s.read(1); s.flush(); s.read(1) }, ""},
		"not read in the end":   {func(s *guestScript) { s.read(1); s.write(2, history.OK) }, "1 of 1 blocks were not read back"},
		"refused only":          {func(s *guestScript) { s.other(history.Failed); s.readOther(0); s.read(1) }, ""},
		"refused only, there":   {func(s *guestScript) { s.other(history.Failed); s.readOther(5); s.read(1) }, "block 8, on  at 5s: it has write 5 and must have write 0"},
		"never tried and read":  {func(s *guestScript) { s.readOther(0); s.read(1) }, "it was never written and was read"},
		"somebody else's": {func(s *guestScript) {
			s.add(history.GuestRead, "b", history.OK, history.GuestInput{}, history.GuestAnswer{Seen: []history.BlockSeen{{Block: 7, Wrong: "it is volume w's"}}})
		}, "it is volume w's"},
		"never written": {func(s *guestScript) {
			s.read(1)
			s.add(history.GuestRead, "b", history.OK, history.GuestInput{}, history.GuestAnswer{Seen: []history.BlockSeen{{Block: 8, Seqs: []uint64{3}}}})
		}, "never written"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t)
			c.do(s)
			expect(t, LostWrites(Record{Ops: s.all}), c.want)
		})
	}
	expect(t, LostWrites(Record{}), "nothing was proved")
}

// A volume that was deleted, or may have been, need not be read in the end.
func TestLostWrites_deleted(t *testing.T) {
	t.Parallel()
	s := &guestScript{t: t}
	s.attach("a")
	s.write(1, history.OK)
	s.flush()
	s.read(1)
	s.write(2, history.OK)
	s.all = append(s.all, history.Op{Kind: history.VolumeDelete, Key: "name", Outcome: history.Unknown, Call: time.Hour, Input: []byte(`{"id":"v"}`)})
	expect(t, LostWrites(Record{Ops: s.all}), "")
}
