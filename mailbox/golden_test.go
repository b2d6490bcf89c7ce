package mailbox

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const (
	goldenDomain = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	goldenVolume = "d772f1c6-3ebb-43c3-a42e-73fcd8255a5f"
)

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "golden", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func uuid(tb testing.TB, s string) UUID {
	tb.Helper()
	u, err := ParseUUID(s)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func goldenMessage(tb testing.TB) Message {
	tb.Helper()
	return Message{Domain: uuid(tb, goldenDomain), Volume: uuid(tb, goldenVolume), SizeMiB: 5120}
}

func TestMessage_golden(t *testing.T) {
	t.Parallel()
	refused := goldenMessage(t)
	refused.SizeMiB = 0
	for name, want := range map[string]Message{
		"mailbox_extend_msg_5120MiB.bin": goldenMessage(t),
		"mailbox_reply_failed.bin":       refused,
	} {
		b := golden(t, name)
		got, err := DecodeMessage(b)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if out := want.Encode(); !bytes.Equal(out[:], b) {
			t.Errorf("%s: encoded %x", name, out)
		}
	}
}

// TestPage_golden: pages of a host and of an SPM, read and made.
func TestPage_golden(t *testing.T) {
	t.Parallel()
	m := goldenMessage(t)
	refused, second := m, Message{Domain: m.Domain, Volume: uuid(t, "11111111-2222-3333-4444-555566667777"), SizeMiB: 0xffffffff}
	refused.SizeMiB = 0
	for name, want := range map[string][]Slot{
		"mailbox_host7_request.page":      {{State: Asking, Message: m}},
		"mailbox_host7_two_requests.page": {{State: Asking, Message: m}, {Index: 62, State: Asking, Message: second}},
		"mailbox_host7_clean.page":        {{State: Clean}},
		"mailbox_host7_reply_ok.page":     {{State: Asking, Message: m}},
		"mailbox_host7_reply_failed.page": {{State: Asking, Message: refused}},
		"mailbox_host7_reply_clean.page":  {{State: Clean}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := golden(t, name)
			ofHost := bytes.Contains([]byte(name), []byte("reply")) == false
			decode, page := DecodeOutboxPage, make([]byte, pageSize)
			for _, s := range want {
				fill(slotOf(page, s.Index), s)
			}
			if ofHost {
				decode = DecodeInboxPage
				sealPage(page)
			}
			got, err := decode(b)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%v, %v", got, err)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("slot %d: %+v", i, got[i])
				}
			}
			if !bytes.Equal(page, b) {
				t.Error("the page made by us differs")
			}
		})
	}
}

func fill(slot []byte, s Slot) {
	if s.State == Clean {
		putClean(slot)
		return
	}
	b := s.Message.Encode()
	copy(slot, b[:])
}

func TestPage_golden_badChecksum(t *testing.T) {
	t.Parallel()
	if _, err := DecodeInboxPage(golden(t, "mailbox_host7_bad_checksum.page")); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, err := DecodeInboxPage(make([]byte, pageSize)); err != nil {
		t.Error("an empty page: ", err)
	}
	for _, n := range []int{0, pageSize - 1, pageSize + 1} {
		if _, err := DecodeInboxPage(make([]byte, n)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := DecodeOutboxPage(make([]byte, n)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestEvent_golden(t *testing.T) {
	t.Parallel()
	b, want := golden(t, "mailbox_event_block.page"), uuid(t, "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0")
	got, err := DecodeEvent(b)
	if err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	if !bytes.Equal(encodeEvent(want), b) {
		t.Error("the event block made by us differs")
	}
	inbox := golden(t, "mailbox_inbox_10hosts.bin")
	if !bytes.Equal(pageOf(inbox, 0), b) {
		t.Error("page 0 of inbox is not the event block")
	}
	if slots, err := DecodeInboxPage(pageOf(inbox, 7)); err != nil || len(slots) != 1 || slots[0].Message != goldenMessage(t) {
		t.Errorf("host 7: %v, %v", slots, err)
	}
}

func TestDecodeMessage_hostile(t *testing.T) {
	t.Parallel()
	good := goldenMessage(t).Encode()
	for name, c := range map[string]struct {
		edit func(b []byte) []byte
		want error
	}{
		"short":           {func(b []byte) []byte { return b[:63] }, ErrCorrupt},
		"version":         {func(b []byte) []byte { b[0] = '2'; return b }, ErrCorrupt},
		"opcode":          {func(b []byte) []byte { b[1] = 'X'; return b }, ErrOpcode},
		"size not hex":    {func(b []byte) []byte { b[sizeAt] = 'g'; return b }, ErrCorrupt},
		"size signed":     {func(b []byte) []byte { b[sizeAt] = '-'; return b }, ErrCorrupt},
		"size underscore": {func(b []byte) []byte { b[sizeAt+1] = '_'; return b }, ErrCorrupt},
		"size too large":  {func(b []byte) []byte { b[sizeAt+7] = '1'; return b }, ErrCorrupt},
	} {
		b := good
		if _, err := DecodeMessage(c.edit(b[:])); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseUUID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "8adbc85ee5544ae0b3188a5465fe5fe1", goldenDomain + "0", "8adbc85e-e554-4ae0-b318-8a5465fe5feg",
		"8adbc85e-e554-4ae0-b3188-a5465fe5fe1"} {
		if _, err := ParseUUID(s); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if got := uuid(t, goldenDomain).String(); got != goldenDomain {
		t.Error(got)
	}
}
