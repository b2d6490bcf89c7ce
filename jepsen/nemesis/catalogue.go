package nemesis

import (
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Catalogue lists every fault there is.
func Catalogue() []Nemesis {
	return slices.Concat(killing(), stopping(), network(), storage(), disks(), clocks(), roles(), damage(), power())
}

// How long faults last. The interesting moments are the end of a lease and the moment at which others may take it.

func shortly(history.Bounds) (least, most time.Duration) {
	return 200 * time.Millisecond, 5 * time.Second
}

func seconds(b history.Bounds) (least, most time.Duration) {
	return 2 * time.Second, 2*time.Second + dead(b)
}

func aroundDeath(b history.Bounds) (least, most time.Duration) {
	return 500 * time.Millisecond, dead(b) + 5*time.Second
}

// aroundFence ends shortly after the host was taken for dead, where it can be: its keeper may not have seen that yet.
func aroundFence(b history.Bounds) (least, most time.Duration) {
	if b.Fence == 0 {
		return aroundDeath(b)
	}
	return b.Fence + time.Second, b.Fence + 2*time.Second
}

// pastFence is for long enough that a host that hangs is fenced although it renews its lease, and the orders to its switch, late as
// they may be, have come to their end.
func pastFence(b history.Bounds) (least, most time.Duration) {
	least, most = pastDeath(b)
	return max(least, b.Fence+8*time.Second), max(most, b.Fence+13*time.Second)
}

// landing is for so long that what hangs may land nevertheless, and so long that it has timed out.
func landing(b history.Bounds) (least, most time.Duration) { return b.IOTimeout, 6 * b.IOTimeout }

func pastDeath(b history.Bounds) (least, most time.Duration) {
	return dead(b) + time.Second, dead(b) + 6*time.Second
}

// belowExpiry ends one second before a lease could be lost that was renewed as late as it may be, at two I/O timeouts.
func belowExpiry(b history.Bounds) (least, most time.Duration) {
	return b.IOTimeout / 5, max(b.IOTimeout/4, expiry(b)-2*b.IOTimeout-time.Second)
}

func atOnce(history.Bounds) (least, most time.Duration) { return 0, 0 }
