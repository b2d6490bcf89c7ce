// Package dm makes linear logical volumes usable through the kernel's device-mapper, without lvm2 and so that lvm2 sees
// them as its own: its names, its uuids, its tables.
//
// The interface of the kernel is one ioctl after the other on /dev/mapper/control (its public header linux/dm-ioctl.h). Each
// takes and returns one buffer, in the machine's byte order, which is little-endian on every machine we build for:
//
//	offset size
//	     0    4 x 3   version of the interface: 4, minor, patch level; the kernel answers with its own
//	    12    4       data_size: bytes of the whole buffer; what of it is an answer, on return
//	    16    4       data_start: where the payload begins, 312 here
//	    20    4       target_count
//	    24    4       open_count
//	    28    4       flags
//	    32    4       event_nr; for resume and remove, the udev flags << 16 | cookie that the event carries
//	    36    4       unused
//	    40    8       device number, minor & 0xff | major << 8 | minor &^ 0xff << 12
//	    48  128       name, ends with NUL
//	   176  129       uuid, ends with NUL
//	   305    7       padding
//
// A payload of targets has for each: u64 first sector, u64 sectors, i32 status, u32 next, 16 bytes of type, then the
// parameters with a NUL, padded to 8 bytes. In a table that is loaded, next counts from this target; in a table that the
// kernel shows, from the first one. A list of devices has for each: u64 device number, u32 next counted from this one and
// 0 in the last, the name with a NUL, padded to 8 bytes; from version 4.45 on, u32 event number, u32 flags (1: a uuid
// follows, 2: there is none; neither unless the request has the flag for uuids), the uuid with a NUL.
//
// Mapper has the operations. DESIGN.md of the folder above says what they promise.
package dm
