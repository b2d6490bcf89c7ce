// Package export makes a thin volume usable on a host without device-mapper: an NBD server on a unix socket that
// programs of QEMU take as it is.
//
// One export is one volume: a list of segments of devices, as a linear logical volume has them, that may grow while
// clients are connected. The export offers the largest size the volume may ever have. A write behind what is allocated
// waits a bounded time for Grow, and whoever extends volumes learns of it from Watch, without polling. Every write goes
// through a blockdev.Guard.
//
// A Server can live in the caller's process, or in one of its own by Main, which a Client steers over a control socket;
// then a restart of the agent is nothing that a guest could notice. DESIGN.md of the folder above says what is promised.
package export
