// Package nemesis injects faults into a pool of real processes and heals them. A fault says what it does, what it needs and
// what it takes for itself while it lasts; a Schedule, made from one seed, says which come, when, on whom and how hard; the
// Executor carries it out, and leaves the pool healed whatever happened.
//
// Whom a fault is to hit is said as a role, the SPM's host or the leader, because that is where it hurts, and becomes a host
// when the time has come. Everything else is known beforehand: the same seed and the same number of hosts give the same Schedule.
package nemesis
