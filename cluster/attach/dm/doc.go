// Package dm makes attached volumes usable as block devices, through the kernel's device-mapper.
//
// A device of the kernel's belongs to no process, and a lease is tied to one. So each device has a holder: a small process that makes it,
// grows it, removes it, and nobody else does. It asks its guard all the time, and freezes the device when the right to write ends or
// when it is told to end; it never ends before. If it is killed, the keeper freezes the device before it frees the lease
// (keeper.Holder.Devices). DESIGN.md of the folder above has the table of failures.
//
// holder.go and serve.go are that process; mapper.go, prepared.go and mapping.go are the agent's side. They talk over a unix socket:
// one request and one reply, each a line of JSON, for each connection.
package dm
