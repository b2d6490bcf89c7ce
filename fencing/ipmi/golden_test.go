package ipmi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"
)

// golden is what ipmitool and ipmi_sim said to each other: `ipmitool -I lanplus -C 3 -L OPERATOR chassis power status` on
// a machine that was on. Requests begin with >, answers with <.
func golden(t *testing.T) (requests, answers [][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/ipmitool.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		way, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		if way == ">" {
			requests = append(requests, b)
		} else {
			answers = append(answers, b)
		}
	}
	return requests, answers
}

// payloadOf finds the payload of a kind in the login.
func payloadOf(t *testing.T, packets [][]byte, kind types.PayloadType) []byte {
	t.Helper()
	for _, b := range packets {
		if p, err := decode(b, nil); err == nil && p.kind == kind {
			return p.payload
		}
	}
	t.Fatalf("no payload of type %d", kind)
	return nil
}

// goldenKeys logs in as ipmitool did, and checks both sides' proofs.
func goldenKeys(t *testing.T, requests, answers [][]byte) *keys {
	t.Helper()
	s, kuid := suites[3], crypto.PadPassword20([]byte(testSecret))
	var r1 rmcpplus.RAKPMessage1
	if err := r1.Unpack(payloadOf(t, requests, types.PayloadTypeRAKPMessage1)); err != nil || string(r1.Username) != testUser {
		t.Fatalf("%+v, %v", r1, err)
	}
	r2 := rmcpplus.RAKPMessage2{AuthAlg: s.auth}
	if err := r2.Unpack(payloadOf(t, answers, types.PayloadTypeRAKPMessage2)); err != nil {
		t.Fatal(err)
	}
	code, err := crypto.RAKP2AuthCode(s.auth, r2.RemoteConsoleSessionID, r1.ManagedSystemSessionID, r1.RemoteConsoleRandomNumber[:],
		r2.ManagedSystemRandomNumber[:], r2.ManagedSystemGUID[:], r1.Role(), testUser, kuid)
	if err != nil || !bytes.Equal(code, r2.KeyExchangeAuthenticationCode) {
		t.Fatalf("the BMC's proof: %x, %v", code, err)
	}
	sik, k1, k2, err := crypto.DeriveSessionKeys(s.auth, r1.RemoteConsoleRandomNumber[:], r2.ManagedSystemRandomNumber[:], r1.Role(), testUser, kuid)
	if err != nil {
		t.Fatal(err)
	}
	icv, err := crypto.RAKP4ICV(s.auth, r1.RemoteConsoleRandomNumber[:], r1.ManagedSystemSessionID, r2.ManagedSystemGUID[:], sik)
	if err != nil || !bytes.Equal(icv, payloadOf(t, answers, types.PayloadTypeRAKPMessage4)[8:]) {
		t.Fatalf("the BMC's last proof: %x, %v", icv, err)
	}
	return &keys{suite: s, k1: k1, k2: k2}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	requests, answers := golden(t)
	k := goldenKeys(t, requests, answers)
	s := &session{keys: k, ours: binary.LittleEndian.Uint32(payloadOf(t, answers, types.PayloadTypeRAKPMessage2)[4:])}
	opened, found := 0, false
	for _, b := range requests {
		p, err := decode(b, k)
		if err != nil {
			continue // before the session
		}
		opened++
		seq := p.payload[4] >> 2
		if !bytes.Equal(p.payload, message(types.CommandGetChassisStatus, seq, nil)) {
			continue
		}
		s.request, found = seq, true
	}
	if opened != 7 || !found {
		t.Fatalf("opened %d requests, chassis status among them: %v", opened, found)
	}
	for _, b := range answers {
		code, data, err := s.accept(b, types.CommandGetChassisStatus)
		if err == nil {
			if code != 0 || len(data) < 3 || data[0]&1 != 1 {
				t.Fatalf("code %d, chassis status %x", code, data)
			}
			return
		}
	}
	t.Fatal("no answer to the chassis status")
}
