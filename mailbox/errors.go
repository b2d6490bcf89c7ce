package mailbox

import "errors"

var (
	// ErrCorrupt says that bytes on the storage are no page or no message: torn, damaged, or somebody else's.
	ErrCorrupt = errors.New("mailbox bytes are corrupt")
	// ErrOpcode says that a message asks for something that this program does not know.
	ErrOpcode = errors.New("mailbox message has an unknown opcode")
	// ErrConfig says that a Host or a Server cannot be made from its configuration.
	ErrConfig = errors.New("mailbox configuration is wrong")
	// ErrRequest says that a request cannot be put into a message. Nothing was sent.
	ErrRequest = errors.New("request does not fit into a mailbox message")
	// ErrQueueFull says that too many requests of this host wait for a slot. Nothing was sent; ask again later.
	ErrQueueFull = errors.New("too many requests wait for a mailbox slot")
	// ErrRefused says that the SPM answered that it did not extend the volume; the mailbox does not say why.
	ErrRefused = errors.New("the SPM did not extend the volume")
	// ErrWithdrawn says that no answer came in time and the request was taken back. The SPM may have carried it out, or
	// may be doing so: look at the size of the volume, then ask again.
	ErrWithdrawn = errors.New("no answer from an SPM in time, request withdrawn: the volume may have been extended")
	// ErrStopped says that this side of the mailbox is not running any more. A request that was under way may have been
	// carried out.
	ErrStopped = errors.New("mailbox is stopped: a request that was under way may have been carried out")
)
