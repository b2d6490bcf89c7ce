// Package lvm2 reads and changes LVM2 volume groups (metadata format "lvm2") without lvm2, so that lvm2 accepts the
// result in every state that a crash can leave.
//
// On a device: the label in sector 1 (see label.go for its layout), one or two metadata areas, the data area with
// the extents. A metadata area is a header of one sector (mdaheader.go) and a ring of texts (ring.go); slot 0 of the
// header points to the committed text. Sectors are 512 bytes in the format whatever the device has. All integers are
// little-endian, and every structure carries the same CRC (crc.go).
//
// A volume group in memory is a VG, immutable. A Tx is a copy with changes, Group.Commit writes it: text, flush,
// precommitted slot, committed slot, flush. DESIGN.md has the reasons and the crash cases.
package lvm2
