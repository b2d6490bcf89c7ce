// Package qmp talks to a running QEMU about the block devices of its guest: how far they are written, and what to do when
// space has run out.
//
// QMP is lines of JSON on a unix socket. QEMU greets with its version; after the command qmp_capabilities it answers
// commands, each with the id that it was given, and sends events in between. Conn is one connection. Watcher keeps one to the
// QEMU of one volume and makes of it what package export knows by itself: a Status that changes when space becomes low.
package qmp
