// Package domain reads and writes a storage domain on block devices: a volume group with seven special volumes, whose
// tags are the domain's keys, and whose other volumes are layers of disk images.
//
// What lies where in a version 5 domain (S = sector size 512, A = lock alignment, 1 MiB, extents of 128 MiB):
//
//	VG tags            RHAT_storage_domain, and one tag MDT_<encoded KEY=VALUE> for each key       (tags.go, keys.go)
//	LV metadata        slot n at 1 MiB + n*8192, n = 1..1947, 512 bytes used: KEY=VALUE lines, EOF  (slot.go)
//	LV ids             the lockspace at 0
//	LV leases          resource SDM at 1*A, resource of the volume with slot n at (100+n)*A
//	LV xleases         index of external leases at A                                               (leases/xlease)
//	LV inbox, outbox   the mailbox
//	LV master          an ext3 file system that the SPM of a VDSM pool mounts                       (masterfs.go)
//	LV <uuid>          a volume; tags MD_<slot>, IU_<image>, PU_<parent>                            (lvtags.go)
//
// A volume exists exactly when its LV is in a committed VG with these tags. Everything else it needs is written
// before that commit, to space and slots that nothing refers to yet. DESIGN.md tells what a crash leaves at each step.
package domain
