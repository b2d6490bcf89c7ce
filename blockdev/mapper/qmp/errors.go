package qmp

import "errors"

var (
	// ErrClosed says that the connection is gone: QEMU has ended, or hung up. Whatever was under way may have happened.
	ErrClosed = errors.New("the connection to QEMU is gone")
	// ErrProtocol says that the other side does not speak QMP.
	ErrProtocol = errors.New("not QMP")
	// ErrNoNode says that QEMU has no block node of that name. Look at query-named-block-nodes for those it has.
	ErrNoNode = errors.New("no such block node")
	// ErrEnded says that the volume is not watched any more.
	ErrEnded = errors.New("the volume is not watched any more")
	// ErrNotStarted says that QEMU could not be reached in time, and was asked for nothing.
	ErrNotStarted = errors.New("QEMU's monitor does not answer, or somebody else is connected to it")
	// ErrConfig says that a configuration cannot be watched.
	ErrConfig = errors.New("invalid configuration of a QMP watcher")
)

// Error is QEMU's refusal of a command. Nothing was done.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

// Error implements error.
func (e *Error) Error() string { return "qemu: " + e.Command + ": " + e.Desc }

// classNotFound is the class of commands that this QEMU does not have.
const classNotFound = "CommandNotFound"

// notFound tells whether err says that there is no such command.
func notFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == classNotFound
}
