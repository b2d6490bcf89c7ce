// Package watchdog resets the machine when users of a lockspace outlive its lease.
//
// A lockspace whose last good renewal began at T has the expiry T + 8N. While it has users and is armed, the machine is
// reset between T + 8N and T + 8N + W unless another renewal succeeds or the users go. Three kinds can do it:
//
//	device  /dev/watchdog: its time is set to W, and it is petted each W/6 while every armed lockspace is good. The
//	        last pet comes less than W/6 before the expiry, so the device fires from 5W/6 to W after it. A keeper
//	        that is killed leaves it running. Closed with the magic 'V' only when nothing is armed.
//	wdmd    sanlock's multiplexer, through its socket: it is told each expiry and owns the device. A client that goes
//	        away with an expiry set stays in force for good.
//	none    nothing resets the machine: it is unprotected, and that is what everybody is told.
//
// Frames of wdmd are 176 bytes each way, in the machine's byte order: u32 magic, command, length, flags, test interval,
// fire timeout; u64 last keepalive, renewal time, expire time (CLOCK_MONOTONIC, seconds); 128 bytes of name.
package watchdog
