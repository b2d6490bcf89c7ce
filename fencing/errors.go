package fencing

import (
	"context"
	"errors"
)

// What goes wrong with power devices. Each says what to do next; devices wrap them with what they saw.
var (
	// ErrAuth: the device knows who asks, and refuses.
	ErrAuth = errors.New("the power device refused the login: check its user, secret and privilege level")
	// ErrTimeout: the call's time ran out. An order may have been carried out all the same.
	ErrTimeout = errors.New("the power device did not answer in time: an order may have been carried out, so ask its status; then check its load and the network")
	// ErrUnreachable: nobody answered at all.
	ErrUnreachable = errors.New("the power device cannot be reached: check address, port and network; if the machine powers it and is dead itself, use a second device, or wait until the lease is dead")
	// ErrRefused: the device answered that it does not do it.
	ErrRefused = errors.New("the power device refused the order: its own log tells why")
	// ErrFailed: a fence agent failed, and only its output knows why.
	ErrFailed = errors.New("the fence agent failed: its output says why, and running it by hand shows more")
	// ErrGarbage: the answer is not one. Nothing was concluded from it.
	ErrGarbage = errors.New("the power device's answer makes no sense, and nothing was concluded from it: check that type, address and port belong together")
	// ErrForged: the answer's author does not have the secret that the request was protected with.
	ErrForged = errors.New("the answer did not come from the power device: somebody is in the way, or the secret is wrong")
	// ErrNoProgram: the fence agent is not on the host that was to run it.
	ErrNoProgram = errors.New("the fence agent is not installed on this host: install it, or let another host do it")
	// ErrConfig: the device's configuration cannot work. Nothing was sent.
	ErrConfig = errors.New("the configuration of the power device is wrong: correct it")
	// ErrUnsupported: the device has no such ability. Nothing was sent.
	ErrUnsupported = errors.New("the power device cannot do that")
)

// Futile reports whether an order that failed with err was surely not carried out, and would not be the next time.
func Futile(err error) bool {
	for _, target := range []error{ErrAuth, ErrNoProgram, ErrConfig, ErrUnsupported, ErrNoAgent, ErrUnknownHost} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// timeLimit names the end of a call's own time as ErrTimeout. The end of outer, the caller's context, stays what it is.
func timeLimit(outer, call context.Context, err error) error {
	if err == nil || outer.Err() != nil || call.Err() == nil || errors.Is(err, ErrTimeout) {
		return err
	}
	return errors.Join(ErrTimeout, err)
}
