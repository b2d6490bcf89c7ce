package check

// role is who may write a piece of the LUN.
type role int

const (
	nobodys    role = iota // not judged: what no host relies on
	structural             // the SPM's
	hostRecord             // a host id's holder's, or that of whoever frees it with proof
	spmLease               // whoever takes part in a ballot for the SPM lease
	lease                  // the same for the lease of a volume or of a VM
)

// The places of leases in their volumes, in lease areas.
const (
	spmArea         = 1   // in leases
	firstVolumeArea = 100 // in leases
	firstVMArea     = 3   // in xleases
)

// roleOf says whose a piece is. In the volumes with records of hosts and leases the rule is one sector: records are written
// alone; whatever is longer makes or wipes records, and that is the SPM's work.
func roleOf(p piece) role {
	alone := p.len <= sectorSize && p.off/sectorSize == (p.off+max(p.len, 1)-1)/sectorSize
	n := p.off / leaseSize
	switch p.area.Name {
	case "master":
		return nobodys // a file system that only VDSM mounts
	case "ids":
		if alone {
			return hostRecord
		}
	case "inbox":
		if p.len <= mailPage && p.off/mailPage == (p.off+max(p.len, 1)-1)/mailPage {
			return nobodys // a host's own page, or its ring in page 0; all at once are the SPM's
		}
	case "leases":
		switch {
		case alone && n == spmArea:
			return spmLease
		case alone && n >= firstVolumeArea:
			return lease
		}
	case "xleases":
		if alone && n >= firstVMArea {
			return lease
		}
	}
	return structural
}

// mailPage is a host's part of the mailbox.
const mailPage = 4096
