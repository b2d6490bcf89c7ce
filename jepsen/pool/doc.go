// Package pool runs the hosts of a failure injection run: real agents with their keepers, started, stopped, cut off and
// broken on demand.
//
// As root each host has a network namespace with two cables, one to a bridge (the pool network, 10.77.0.0/24) and one to a
// namespace where the LUN is served to this host alone (the storage network). The LUN has the same address for every host,
// because a pool names a LUN the same way everywhere; so there is one such namespace for each host. Each data directory is a
// file system of its own in a file, which can be full, hung, or lose what was not flushed, alone.
//
// Without root the hosts share the loopback interface, reach the LUN over a unix socket each, and only processes can be hurt;
// Pool.Can says what else there is.
//
// Two things must not outlive the harness, however it ends. Agents and keepers: the kernel kills agents with it, and a keeper
// that is not stopped follows its agent. A frozen disk, whose writers cannot even be killed: a child in a session of its own
// holds the other end of a pipe and thaws every disk when the harness is gone. What then still lies about, mounts, loop devices and
// namespaces, is removed by Sweep.
package pool
