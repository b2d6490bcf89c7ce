// Package mailbox holds both sides of the storage mailbox, by which a host asks the SPM to extend a thin volume with
// nothing but shared storage between them. VDSM hosts are served by our SPM, and our hosts by a VDSM SPM.
//
// There are two volumes on the master domain, named from the SPM's point of view: hosts write to inbox and read from
// outbox. Each is a row of pages of 4096 bytes; the page of host h is at h*4096. Page 0 of inbox is the event block.
//
// Page:
//
//	   0 63 slots of 64 bytes
//	4032 60 bytes of zero
//	4092 u32 little-endian, in inbox only: sum of the bytes 0..4091
//
// Slot: empty when its first byte is 0 (the writer zeroes it all), CLEAN when all its bytes are 0x01, else a message:
//
//	 0  1  version, ASCII 1
//	 1  4  opcode, ASCII xtnd: extend a volume
//	 5 16  UUID of the storage domain, its 16 bytes in reverse order
//	21 16  UUID of the volume, in reverse order
//	37 16  wanted total size of the volume in MiB, lower-case hexadecimal ASCII with leading zeroes, at most ffffffff;
//	       in an answer the same size, or 0 when the volume was not extended
//	53 11  ASCII 0
//
// Event block: bytes 0..3 are 00 65 76 74 (NUL evt), bytes 4..19 a UUID in the usual order that was never used before,
// the rest zero, with no checksum. A host writes it after each page to say "look".
//
// The hand-shake of one slot:
//
//	          inbox      outbox
//	ask       message    as before (zero or CLEAN)
//	answer    message    message
//	got it    CLEAN      message
//	ack       CLEAN      CLEAN
//	done      zero       CLEAN
//
// DESIGN.md in this folder has the assumptions, what happens at each restart, and why.
package mailbox
