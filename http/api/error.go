package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// ProblemType is the media type of every error body.
const ProblemType = "application/problem+json"

// StreamType is the media type of a stream of events.
const StreamType = "text/event-stream"

// Codes tell a program what went wrong. They are stable; the text next to them is for people.
const (
	CodeInvalid          = "invalid_request"    // the request can never work as it is
	CodeNotFound         = "not_found"          // no such thing, or no such path
	CodeMethod           = "method_not_allowed" // the path exists, the method does not
	CodeTooLarge         = "request_too_large"  // the body is over the limit
	CodeMediaType        = "unsupported_media"  // the body is not application/json
	CodeUnauthorized     = "unauthorized"       // no certificate or token, or an invalid one
	CodeForbidden        = "forbidden"          // known caller, but the role may not do this
	CodeConflict         = "conflict"           // contradicts what exists
	CodeNameTaken        = "name_taken"         // the name belongs to something else
	CodeBusy             = "busy"               // another operation holds it; try again
	CodeNoSpace          = "no_space"           // the domain has no room
	CodeOutOfSpace       = "out_of_space"       // the domain has no room for an extension; queued says whether it is kept
	CodeLimit            = "limit_reached"      // a limit of the format is reached
	CodeNotSPM           = "not_spm"            // this host does not hold the role; holder says who does
	CodeNoSPM            = "no_spm"             // nobody serves as SPM now
	CodeNotLeader        = "not_leader"         // this host is not the manager; holder says who is
	CodeNoLeader         = "no_leader"          // the cluster has no leader: no quorum or an election runs
	CodeLeaseLost        = "lease_lost"         // the right to write went away; nothing more was written
	CodeNotMember        = "not_member"         // this host belongs to no cluster yet
	CodeAlreadyMember    = "already_member"     // this host already belongs to a cluster
	CodeNoPool           = "no_pool"            // the cluster has no pool yet
	CodeForeignSignature = "foreign_signature"  // the device holds somebody's data
	CodeDevice           = "device_error"       // a device is missing, too small, read-only or failing
	CodeCorrupt          = "corrupt"            // bytes on a device are not what they must be
	CodeTokenInvalid     = "token_invalid"      // the token is wrong, used or expired
	CodeUnavailable      = "unavailable"        // surely not done; try again later
	CodeTimeout          = "timeout"            // surely not done in the time given
	CodeOutcomeUnknown   = "outcome_unknown"    // may have happened; look before trying again
	CodeInternal         = "internal"           // a defect of Holdfast
	CodeNotImplemented   = "not_implemented"    // this build or state has no such ability
)

// statusOf gives the HTTP status of a code where an Error names none.
var statusOf = map[string]int{
	CodeInvalid: http.StatusBadRequest, CodeNotFound: http.StatusNotFound, CodeMethod: http.StatusMethodNotAllowed,
	CodeTooLarge: http.StatusRequestEntityTooLarge, CodeMediaType: http.StatusUnsupportedMediaType,
	CodeUnauthorized: http.StatusUnauthorized, CodeForbidden: http.StatusForbidden,
	CodeConflict: http.StatusConflict, CodeNameTaken: http.StatusConflict, CodeBusy: http.StatusConflict,
	CodeNoSpace: http.StatusInsufficientStorage, CodeLimit: http.StatusInsufficientStorage, CodeOutOfSpace: http.StatusInsufficientStorage,
	CodeNotSPM: http.StatusMisdirectedRequest, CodeNotLeader: http.StatusMisdirectedRequest,
	CodeNoSPM: http.StatusServiceUnavailable, CodeNoLeader: http.StatusServiceUnavailable,
	CodeLeaseLost: http.StatusServiceUnavailable, CodeNotMember: http.StatusConflict,
	CodeAlreadyMember: http.StatusConflict, CodeNoPool: http.StatusConflict,
	CodeForeignSignature: http.StatusConflict, CodeDevice: http.StatusUnprocessableEntity,
	CodeCorrupt: http.StatusUnprocessableEntity, CodeTokenInvalid: http.StatusForbidden,
	CodeUnavailable: http.StatusServiceUnavailable, CodeTimeout: http.StatusServiceUnavailable,
	CodeOutcomeUnknown: http.StatusGatewayTimeout, CodeInternal: http.StatusInternalServerError,
	CodeNotImplemented: http.StatusNotImplemented,
}

// Codes lists every code with its usual HTTP status; the OpenAPI document is tested against it.
func Codes() map[string]int {
	m := make(map[string]int, len(statusOf))
	for k, v := range statusOf {
		m[k] = v
	}
	return m
}

// Error is an answer that says no. A backend returns one (anywhere in its error chain) to choose what the caller
// sees; any other error becomes CodeInternal.
type Error struct {
	// Code is one of the Code constants.
	Code string
	// Status is the HTTP status; 0 takes the usual one of the code.
	Status int
	// Message says what happened, lower case, one sentence.
	Message string
	// Holder is the host that has what the caller needs (the SPM, the leader, the owner of a lease).
	Holder string
	// Epoch is the SPM epoch the answer was given under; 0 when there is none.
	Epoch uint64
	// RetryAfter is when trying again makes sense; 0 says nothing about it.
	RetryAfter time.Duration
	// NextStep is the next safe thing to do, as a sentence or a command.
	NextStep string
	// Queued says that the request is kept and carried out when it can be.
	Queued bool
	// RequestID names the request in the logs; the server fills it in.
	RequestID string
}

// Errorf makes an Error with a formatted message.
func Errorf(code, nextStep, format string, args ...any) *Error {
	return &Error{Code: code, NextStep: nextStep, Message: fmt.Sprintf(format, args...)}
}

// Error returns the message, with the code in front.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// HTTPStatus is the status the answer is sent with.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	if s, ok := statusOf[e.Code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Unknown reports whether the operation may have happened in spite of the error.
func (e *Error) Unknown() bool { return e.Code == CodeOutcomeUnknown }

// problem is the RFC 9457 form of an Error.
type problem struct {
	Type       string  `json:"type"`
	Title      string  `json:"title"`
	Status     int     `json:"status"`
	Detail     string  `json:"detail"`
	Code       string  `json:"code"`
	Holder     string  `json:"holder,omitempty"`
	Epoch      uint64  `json:"epoch,omitempty"`
	RetryAfter float64 `json:"retry_after,omitempty"`
	NextStep   string  `json:"next_step,omitempty"`
	Queued     bool    `json:"queued,omitempty"`
	RequestID  string  `json:"request_id,omitempty"`
}

// MarshalJSON writes the application/problem+json form; retry_after is in seconds.
func (e *Error) MarshalJSON() ([]byte, error) {
	status := e.HTTPStatus()
	return json.Marshal(problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message, Code: e.Code,
		Holder: e.Holder, Epoch: e.Epoch, RetryAfter: e.RetryAfter.Seconds(), NextStep: e.NextStep, Queued: e.Queued, RequestID: e.RequestID,
	})
}

// UnmarshalJSON reads the application/problem+json form.
func (e *Error) UnmarshalJSON(b []byte) error {
	var p problem
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("reading problem document: %w", err)
	}
	*e = Error{
		Code: p.Code, Status: p.Status, Message: p.Detail, Holder: p.Holder, Epoch: p.Epoch,
		RetryAfter: time.Duration(p.RetryAfter * float64(time.Second)), NextStep: p.NextStep, Queued: p.Queued, RequestID: p.RequestID,
	}
	return nil
}
