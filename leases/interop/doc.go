// Package interop has only tests: Holdfast hosts and real sanlock 3.8.5 daemons on the same lockspaces and resources.
//
// A test makes a file with a lockspace, a few resources and a counter sector. Our hosts are leases.Lockspace objects in
// the test's process, behind devices that fail on demand, or real keepers with an agent that can be killed. Theirs are
// sanlock daemons, each with its own SANLOCK_RUN_DIR and without a watchdog, and processes that use them through
// libsanlock. What is preloaded into the daemon (testdata/shim.c) can kill or stall it at any chosen write.
//
// N is 2 s where nothing else is said, and W 60 s, as sanlock has it. The long waits are idle, so the tests run at once.
//
// HOLDFAST_INTEROP_TIME sets how long the contention tests run (`make interop TIME=10m`).
package interop
