package fsm

// Code says in one word why a command was refused. Codes are stable: clients and logs depend on them.
type Code string

// The reasons for a refusal. Each is an error that errors.Is finds in what Outcome.Err returns.
const (
	CodeInvalid       Code = "invalid"        // a field holds a value that can never be accepted
	CodeExists        Code = "exists"         // the name or id is taken by something else
	CodeNotFound      Code = "not_found"      // there is nothing of that name
	CodeConflict      Code = "conflict"       // the state moved since the caller looked at it
	CodeStale         Code = "stale"          // the (epoch, seq) is older than what is already here
	CodeFull          Code = "full"           // no host id is left
	CodeProofRequired Code = "proof_required" // the host is not proven to be unable to write
	CodeTokenUnknown  Code = "token_unknown"  // no such token, or it was revoked
	CodeTokenUsed     Code = "token_used"     // a one-time token was used before
	CodeTokenExpired  Code = "token_expired"  // the token's time is over
	CodeNotReady      Code = "not_ready"      // the cluster was not initialised, or it was already
	CodeTooOld        Code = "too_old"        // this replica met a command that it does not know
	CodeBadCommand    Code = "bad_command"    // the entry does not decode
	CodeDisarmed      Code = "disarmed"       // fencing is disarmed for planned work
)

// The same reasons as errors, for errors.Is.
var (
	ErrInvalid       error = sentinel(CodeInvalid)
	ErrExists        error = sentinel(CodeExists)
	ErrNotFound      error = sentinel(CodeNotFound)
	ErrConflict      error = sentinel(CodeConflict)
	ErrStale         error = sentinel(CodeStale)
	ErrFull          error = sentinel(CodeFull)
	ErrProofRequired error = sentinel(CodeProofRequired)
	ErrTokenUnknown  error = sentinel(CodeTokenUnknown)
	ErrTokenUsed     error = sentinel(CodeTokenUsed)
	ErrTokenExpired  error = sentinel(CodeTokenExpired)
	ErrNotReady      error = sentinel(CodeNotReady)
	ErrTooOld        error = sentinel(CodeTooOld)
	ErrBadCommand    error = sentinel(CodeBadCommand)
	ErrDisarmed      error = sentinel(CodeDisarmed)
)

type sentinel Code

func (s sentinel) Error() string     { return "refused: " + string(s) }
func (s sentinel) ErrorCode() string { return string(s) }

// RefusedError is the error of a command that was replicated and then refused, the same way on every replica.
type RefusedError struct {
	Code    Code
	Message string
}

// Error says what was refused and why.
func (r *RefusedError) Error() string { return r.Message }

// ErrorCode is the stable code that travels between hosts.
func (r *RefusedError) ErrorCode() string { return string(r.Code) }

// Is makes errors.Is(err, ErrStale) and its like work.
func (r *RefusedError) Is(target error) bool {
	s, ok := target.(sentinel)
	return ok && Code(s) == r.Code
}

// Outcome is what applying one command gave. It is a plain value: it is kept for retries and travels between hosts.
type Outcome struct {
	Code    Code   `codec:"c,omitempty" json:"code,omitempty"` // empty: applied
	Message string `codec:"m,omitempty" json:"message,omitempty"`

	Index     uint64 `codec:"i,omitempty" json:"index,omitempty"` // the log index that did the work
	Duplicate bool   `codec:"-" json:"duplicate,omitempty"`       // a retry of a command that was applied before
	Skipped   bool   `codec:"k,omitempty" json:"skipped,omitempty"`

	HostID  int            `codec:"h,omitempty" json:"host_id,omitempty"` // HostJoin: the id given out
	Epoch   uint64         `codec:"e,omitempty" json:"epoch,omitempty"`   // SPMUpdate: the epoch now recorded
	Refused []EntryRefusal `codec:"r,omitempty" json:"refused,omitempty"` // batches: entries left out
	Added   []string       `codec:"a,omitempty" json:"added,omitempty"`   // MirrorReplace: volume ids new to the mirror
	Removed []string       `codec:"d,omitempty" json:"removed,omitempty"` // MirrorReplace: volume ids gone from the mirror
	Changed []string       `codec:"u,omitempty" json:"changed,omitempty"` // MirrorReplace: volume ids that differed
}

// EntryRefusal tells which entry of a batch was left out.
type EntryRefusal struct {
	ID      string `codec:"i" json:"id"`
	Code    Code   `codec:"c" json:"code"`
	Message string `codec:"m" json:"message"`
}

// Err is nil when the command was applied, else a *RefusedError.
func (o Outcome) Err() error {
	if o.Code == "" {
		return nil
	}
	return &RefusedError{Code: o.Code, Message: o.Message}
}

func refuse(code Code, message string) Outcome { return Outcome{Code: code, Message: message} }
