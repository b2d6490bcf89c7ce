// Package crash explores what a crash may leave of short histories of structural operations.
//
// For every sequence of up to three operations the steps of the SPM are run on a domain in memory that records each
// write. From the record follow the states in which a crash could have left the LUN: each prefix of the writes, the next
// write torn at each sector, and the writes that no flush covered lost, reordered and torn in many combinations. Each
// state is recovered as the next SPM would do it, and judged: by the model (what was acknowledged is there, what was not
// is there wholly or not at all, nothing has leaked), by the domain's own check, and on a sample by lvm2, qemu-img and
// sanlock. Some recoveries are cut short as well, at each of their writes.
//
// All of it is tests, because what plants and records faults must not be in the program. `go test ./jepsen/crash`
// explores a bounded set, `make crash-states` everything.
package crash
