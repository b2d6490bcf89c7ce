// Package attach keeps the volumes that are usable on this host: who may write each of them, where it is to be found, and
// that it grows in time.
//
// A volume is attached together with its chain. For each volume of the chain there is a lease on the storage, a mapping
// (an export, or device-mapper), and a record in the data directory; all three outlive the agent. See DESIGN.md.
package attach
