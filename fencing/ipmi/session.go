package ipmi

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/holdfast-io/holdfast/fencing"
)

// errCipher: the BMC does not know the cipher suite.
var errCipher = errors.New("the BMC does not know the cipher suite")

// session is an open session with a BMC, used by one goroutine.
type session struct {
	link  *link
	waits []time.Duration
	keys  *keys

	ours, theirs uint32 // the session's number at either side
	sent         uint32 // sequence number of the last packet sent
	seen         uint32 // and of the last one accepted
	request      uint8  // 6 bits; ties an answer to its request
}

// login is one attempt to open a session.
type login struct {
	link   *link
	waits  []time.Duration
	suite  suite
	user   string
	kuid   []byte // the secret as a key
	level  types.PrivilegeLevel
	tag    byte
	ours   uint32
	theirs uint32
	random [16]byte
}

// openSession proves to the BMC that we know the secret, and lets it prove the same.
func openSession(ctx context.Context, l *link, waits []time.Duration, s suite, c Config) (*session, error) {
	in := &login{link: l, waits: waits, suite: s, user: c.User, level: privileges[c.Privilege]}
	in.kuid = crypto.PadPassword20([]byte(c.Secret.Reveal()))
	var r [5]byte
	_, _ = rand.Read(r[:]) // never fails
	_, _ = rand.Read(in.random[:])
	in.tag, in.ours = r[0], binary.LittleEndian.Uint32(r[1:])|1 // 0 is no session
	if err := in.open(ctx); err != nil {
		return nil, fmt.Errorf("opening a session with cipher suite %d: %w", s.id, err)
	}
	r2, err := in.challenge(ctx)
	if err != nil {
		return nil, fmt.Errorf("logging in with cipher suite %d: %w", s.id, err)
	}
	k, err := in.finish(ctx, r2)
	if err != nil {
		return nil, fmt.Errorf("logging in with cipher suite %d: %w", s.id, err)
	}
	return &session{link: l, waits: waits, keys: k, ours: in.ours, theirs: in.theirs}, nil
}

// ask exchanges one message of the login. accept gets the payload of answers of the right kind.
func (in *login) ask(ctx context.Context, kind types.PayloadType, payload []byte, reply types.PayloadType, accept func([]byte) error) error {
	in.tag++
	payload[0] = in.tag // all messages of the login begin with it
	build := func() ([]byte, error) { return packet{kind: kind, payload: payload}.encode(nil) }
	return in.link.exchange(ctx, in.waits, build, func(b []byte) error {
		p, err := decode(b, nil)
		switch {
		case err != nil:
			return errIgnored{err}
		case p.kind != reply || p.session != 0:
			return errIgnored{errNotAnswer}
		case len(p.payload) < 8:
			return errIgnored{errShort}
		case p.payload[0] != in.tag || binary.LittleEndian.Uint32(p.payload[4:]) != in.ours:
			return errIgnored{errNotAnswer}
		}
		if status := types.RmcpStatusCode(p.payload[1]); status != types.RmcpStatusCodeNoErrors {
			return refused(status)
		}
		return accept(p.payload)
	})
}

// open asks for a session with exactly the algorithms of the suite.
func (in *login) open(ctx context.Context) error {
	req := &rmcpplus.OpenSessionRequest{RequestedMaximumPrivilegeLevel: in.level, RemoteConsoleSessionID: in.ours}
	req.AuthenticationPayload, req.IntegrityPayload, req.ConfidentialityPayload = rmcpplus.NewAlgorithmPayloads(in.suite.auth, in.suite.integrity, in.suite.crypt)
	return in.ask(ctx, types.PayloadTypeRmcpOpenSessionRequest, req.Pack(), types.PayloadTypeRmcpOpenSessionResponse, func(b []byte) error {
		var res rmcpplus.OpenSessionResponse
		if err := res.Unpack(b); err != nil {
			return errIgnored{err}
		}
		if res.AuthAlg != byte(in.suite.auth) || res.IntegrityAlg != byte(in.suite.integrity) || res.CryptAlg != byte(in.suite.crypt) {
			return fmt.Errorf("asked for it, the BMC chose the algorithms %d, %d, %d: %w", res.AuthAlg, res.IntegrityAlg, res.CryptAlg, errCipher)
		}
		if res.ManagedSystemSessionID == 0 {
			return errIgnored{errNotAnswer}
		}
		in.theirs = res.ManagedSystemSessionID
		return nil
	})
}

// role is the privilege as it goes into the codes: with the bit that says that the user is looked up by the name alone.
func (in *login) role() *rmcpplus.RAKPMessage1 {
	return &rmcpplus.RAKPMessage1{
		ManagedSystemSessionID: in.theirs, RemoteConsoleRandomNumber: in.random, NameOnlyLookup: true,
		RequestedMaximumPrivilegeLevel: in.level, UsernameLength: byte(len(in.user)), Username: []byte(in.user),
	}
}

// challenge sends our random number; the answer proves that the BMC knows the secret.
func (in *login) challenge(ctx context.Context) (rmcpplus.RAKPMessage2, error) {
	r1 := in.role()
	r2 := rmcpplus.RAKPMessage2{AuthAlg: in.suite.auth}
	err := in.ask(ctx, types.PayloadTypeRAKPMessage1, r1.Pack(), types.PayloadTypeRAKPMessage2, func(b []byte) error {
		if err := r2.Unpack(b); err != nil {
			return errIgnored{err}
		}
		want, err := crypto.RAKP2AuthCode(in.suite.auth, in.ours, in.theirs, in.random[:], r2.ManagedSystemRandomNumber[:],
			r2.ManagedSystemGUID[:], r1.Role(), in.user, in.kuid)
		if err != nil {
			return fmt.Errorf("checking the BMC's proof: %w", err)
		}
		if len(want) == 0 || !hmac.Equal(want, r2.KeyExchangeAuthenticationCode) {
			return fmt.Errorf("the BMC and this host do not have the same secret for this user: %w", fencing.ErrAuth)
		}
		return nil
	})
	return r2, err
}

// finish sends our proof, and checks that the BMC has come to the same keys.
func (in *login) finish(ctx context.Context, r2 rmcpplus.RAKPMessage2) (*keys, error) {
	role := in.role().Role()
	code, err := crypto.RAKP3AuthCode(in.suite.auth, r2.ManagedSystemRandomNumber[:], in.ours, role, in.user, in.kuid)
	if err != nil {
		return nil, fmt.Errorf("making our proof: %w", err)
	}
	sik, k1, k2, err := crypto.DeriveSessionKeys(in.suite.auth, in.random[:], r2.ManagedSystemRandomNumber[:], role, in.user, in.kuid)
	if err != nil {
		return nil, fmt.Errorf("making the session's keys: %w", err)
	}
	want, err := crypto.RAKP4ICV(in.suite.auth, in.random[:], in.theirs, r2.ManagedSystemGUID[:], sik)
	if err != nil {
		return nil, fmt.Errorf("making the BMC's proof: %w", err)
	}
	r3 := &rmcpplus.RAKPMessage3{ManagedSystemSessionID: in.theirs, KeyExchangeAuthenticationCode: code}
	err = in.ask(ctx, types.PayloadTypeRAKPMessage3, r3.Pack(), types.PayloadTypeRAKPMessage4, func(b []byte) error {
		r4 := rmcpplus.RAKPMessage4{AuthAlg: in.suite.auth}
		if err := r4.Unpack(b); err != nil {
			return errIgnored{err}
		}
		if len(want) == 0 || !hmac.Equal(want, r4.IntegrityCheckValue) {
			return errIgnored{errors.New("the BMC's keys are not ours (does it want a key Kg besides the user's secret?)")}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &keys{suite: in.suite, k1: k1, k2: k2}, nil
}

// refused names the reason why a BMC does not open a session.
func refused(status types.RmcpStatusCode) error {
	sentinel := fencing.ErrRefused
	switch status {
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload, types.RmcpStatusCodeNoCipherSuiteMatch:
		sentinel = errCipher
	case types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel, types.RmcpStatusCodeUnauthorizedName,
		types.RmcpStatusCodeInvalidNameLength, types.RmcpStatusCodeInvalidIntegrityCheckValue:
		sentinel = fencing.ErrAuth
	}
	return fmt.Errorf("the BMC says %s (%#x): %w", status, byte(status), sentinel)
}

// command sends an IPMI command, and returns the data of its answer.
func (s *session) command(ctx context.Context, cmd types.Command, data []byte) ([]byte, error) {
	return s.commandIn(ctx, s.waits, cmd, data)
}

func (s *session) commandIn(ctx context.Context, waits []time.Duration, cmd types.Command, data []byte) ([]byte, error) {
	s.request = (s.request + 1) & 0x3f
	msg := message(cmd, s.request, data)
	build := func() ([]byte, error) {
		s.sent++
		return packet{session: s.theirs, seq: s.sent, payload: msg}.encode(s.keys)
	}
	var out []byte
	err := s.link.exchange(ctx, waits, build, func(b []byte) error {
		code, body, err := s.accept(b, cmd)
		if err == nil {
			out, err = body, completed(code)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.Name, err)
	}
	return out, nil
}

// accept takes a datagram only if it is the answer to the last request.
func (s *session) accept(b []byte, cmd types.Command) (byte, []byte, error) {
	p, err := decode(b, s.keys)
	switch {
	case err != nil:
		return 0, nil, errIgnored{err}
	case p.kind != types.PayloadTypeIPMI || p.session != s.ours:
		return 0, nil, errIgnored{errNotAnswer}
	case p.seq <= s.seen:
		return 0, nil, errIgnored{errors.New("the packet was sent before, and is repeated")}
	}
	code, body, err := answer(p.payload, cmd, s.request)
	if err != nil {
		return 0, nil, errIgnored{err}
	}
	s.seen = p.seq
	return code, append([]byte(nil), body...), nil
}

// completed names a completion code other than success.
func completed(code byte) error {
	const (
		done        = 0x00
		noPrivilege = 0xd4
	)
	switch code {
	case done:
		return nil
	case noPrivilege:
		return fmt.Errorf("completion code %#x, the privilege level does not suffice: %w", code, fencing.ErrAuth)
	}
	return fmt.Errorf("completion code %#x: %w", code, fencing.ErrRefused)
}

// close ends the session. BMCs have few of them, so it is tried, but nothing depends on it.
func (s *session) close(ctx context.Context) {
	id := binary.LittleEndian.AppendUint32(nil, s.theirs)
	_, _ = s.commandIn(ctx, []time.Duration{500 * time.Millisecond}, types.CommandCloseSession, id)
}
