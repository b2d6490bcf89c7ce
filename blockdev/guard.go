package blockdev

import "time"

// Guard is the right to write. Package leases satisfies it; code in and below blockdev that may only run under a
// lease takes one, so that no format package imports leases. It is safe for concurrent use.
type Guard interface {
	// Check returns nil when the lease is surely held now and stays good for longer than need, on a clock that
	// goes on in suspend. Any error means: do not submit.
	Check(need time.Duration) error
	// Epoch is the version of the lease (sanlock lver) under which the right was given.
	Epoch() uint64
}
