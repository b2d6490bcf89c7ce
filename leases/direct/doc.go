// Package direct does what `sanlock direct` does: it makes, shows and changes lease records on a device without any
// lockspace being joined, without a daemon, and without a configuration. Repair tools, fence scripts and sanlock's own
// tests are built on these operations.
//
// Nothing here looks after what it took. A host id that AcquireID took is not renewed, and a lease that Acquire took is
// good only as long as somebody renews the host id it was taken for. Nobody else can be judged either: a resource that
// another host owns is refused (CodeLockspace), alive or not.
//
// Results are those of sanlock 3.8.5; Code gives its number for an error. On purpose other than sanlock are:
//
//   - Release releases. sanlock compares the record's writer with host 0, writes nothing and reports success. A lease
//     that is not held by the given host in the given generation is refused with CodeReleaseOwner.
//   - Acquire needs a host id and AcquireID one from 1 on. sanlock takes a lease for host 0 and writes its ballot over the
//     request record.
//   - RenewID and ReleaseID write where they read, and only if the record names that host. sanlock writes into the sector of
//     the host that the record names, which with a wrong offset is another record or lies outside of the lockspace.
//   - A number of hosts beyond what the area holds is never written; sanlock takes a negative one as it is.
//   - An I/O timeout is 1 to 255 s; sanlock stores more and loses the upper bits when the host id is taken.
//   - An index entry outside of the slots is refused with CodeIndexOffset. sanlock writes it over the header or behind the
//     index, and counts in 32 bits, so that slots from 2 GiB on answer with garbage.
//   - A record that could not be read is shown as zeroes. sanlock shows what was on its stack.
//   - Where sanlock crashes (no resource given), CodeInvalid is the answer.
//   - A device is opened for reading only where nothing is written.
package direct
