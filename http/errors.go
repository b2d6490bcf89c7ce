package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

// problemOf turns any error into what the caller is told. Errors without an *api.Error are a defect, except a
// deadline: then nobody knows whether a change was made.
func problemOf(err error, method string) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return deadlineProblem(method)
	}
	return api.Errorf(api.CodeInternal, "look for the request id in the agent's log", "unexpected error: %v", err)
}

func deadlineProblem(method string) *api.Error {
	if method == http.MethodGet || method == http.MethodHead {
		return api.Errorf(api.CodeTimeout, "try again", "no answer within the time given")
	}
	return api.Errorf(api.CodeOutcomeUnknown, "list what exists before trying again",
		"no answer within the time given; the change may have been made")
}

func notMember() *api.Error {
	return api.Errorf(api.CodeNotMember, "run holdfast init on the first host, or holdfast join ADDRESS --token TOKEN on a further one",
		"this host is not a member of a cluster")
}

// surelyNotDone reports whether the code promises that nothing was changed, because the request reached the wrong
// host or the wrong moment. Only such answers are worth one more try elsewhere.
func surelyNotDone(code string) bool {
	switch code {
	case api.CodeNotSPM, api.CodeNoSPM, api.CodeNotLeader, api.CodeNoLeader:
		return true
	}
	return false
}
