package mailbox

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

var goldenPages = []string{"mailbox_host7_request.page", "mailbox_host7_two_requests.page", "mailbox_host7_clean.page",
	"mailbox_host7_bad_checksum.page", "mailbox_host7_reply_ok.page", "mailbox_host7_reply_failed.page",
	"mailbox_host7_reply_clean.page", "mailbox_event_block.page"}

// FuzzMessage: no panic, and what is accepted comes out of Encode as it was, but for the padding and the case of the size.
func FuzzMessage(f *testing.F) {
	f.Add(golden(f, "mailbox_extend_msg_5120MiB.bin"))
	f.Add(golden(f, "mailbox_reply_failed.bin"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		out := m.Encode()
		if !bytes.Equal(out[:sizeAt], b[:sizeAt]) || !bytes.EqualFold(out[sizeAt:paddingAt], b[sizeAt:paddingAt]) {
			t.Fatalf("%x became %x", b, out)
		}
		if again, err := DecodeMessage(out[:]); err != nil || again != m {
			t.Fatalf("%v became %v, %v", m, again, err)
		}
	})
}

// FuzzEvent: no panic.
func FuzzEvent(f *testing.F) {
	f.Add(golden(f, "mailbox_event_block.page"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := DecodeEvent(b)
		if err == nil && !bytes.Equal(id[:], b[eventAt:eventSize]) {
			t.Fatal(id)
		}
	})
}

// FuzzInboxPage: whatever a page of a host says, the SPM's side answers in that page only, in slots with a message or
// CLEAN only, and once.
func FuzzInboxPage(f *testing.F) {
	for _, name := range goldenPages {
		f.Add(golden(f, name), true)
		f.Add(golden(f, name), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		p := make([]byte, pageSize)
		copy(p, b)
		if whole {
			sealPage(p)
		}
		cfg := ServerConfig{Options: DefaultServerOptions(), Log: quiet()}
		cfg.Options.Hosts = 3
		s := newServerSlots(&cfg)
		started := 0
		s.room = func(UUID) bool { return true }
		s.start = func(id int, e *exchange) {
			started++
			j := &job{id: id, req: e.req}
			e.job = j
			s.result(j, time.Time{})
			s.result(j, time.Time{})
		}
		for range 2 {
			_, err := s.page(1, p, time.Time{})
			if (err == nil) != (verifyPage(p) == nil) {
				t.Fatal(err)
			}
		}
		checkAnswers(t, s, p, started)
		_, _ = DecodeInboxPage(b)
	})
}

// checkAnswers looks at all that the SPM would write after a page.
func checkAnswers(t *testing.T, s *serverSlots, p []byte, started int) {
	t.Helper()
	for _, host := range []int{0, 2} {
		if !bytes.Equal(pageOf(s.out, host), make([]byte, pageSize)) {
			t.Fatalf("answers in page %d", host)
		}
	}
	out := pageOf(s.out, 1)
	if verifyPage(p) != nil && !bytes.Equal(out, make([]byte, pageSize)) {
		t.Fatal("answers to a page that is not whole")
	}
	if int(s.requests) < started || binary.LittleEndian.Uint32(out[checksumAt:]) != 0 {
		t.Fatalf("%d of %d handled", started, s.requests)
	}
	for i := range slotCount {
		if answer := stateOf(slotOf(out, i)); answer != Empty && answer != stateOf(slotOf(p, i)) {
			t.Fatalf("slot %d: %v to %v", i, answer, stateOf(slotOf(p, i)))
		}
	}
}

// FuzzOutboxPage: whatever the SPM's page says, a host takes nothing for an answer that does not fit, and every slot
// stays in a known phase.
func FuzzOutboxPage(f *testing.F) {
	for _, name := range goldenPages {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := make([]byte, pageSize)
		copy(p, b)
		s := newHostSlots(DefaultHostOptions(), HostConfig{}.Bugs, 0)
		m := goldenMessage(t)
		a := &ask{msg: m, done: make(chan error, 1)}
		if !s.place(a, time.Time{}) {
			t.Fatal("no slot")
		}
		s.see(p, time.Time{})
		r, err := DecodeMessage(slotOf(p, 0))
		fits := err == nil && r.Volume == m.Volume && r.Domain == m.Domain && (r.SizeMiB == m.SizeMiB || r.SizeMiB == 0)
		if fits != (len(a.done) == 1) {
			t.Fatalf("answer %v taken: %v", r, len(a.done) == 1)
		}
		if n := s.counts(); n[free]+n[asked]+n[cleaned] != slotCount {
			t.Fatal(n)
		}
		_, _ = DecodeOutboxPage(b)
	})
}
