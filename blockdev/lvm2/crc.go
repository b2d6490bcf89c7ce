package lvm2

import "hash/crc32"

// crcStart is the start value of the CRC. There is no final inversion, unlike in zlib.
const crcStart uint32 = 0xf597a6cf

// checksum is the CRC of LVM2: one running CRC-32 over all parts.
func checksum(parts ...[]byte) uint32 {
	c := ^crcStart
	for _, p := range parts {
		c = crc32.Update(c, crc32.IEEETable, p)
	}
	return ^c
}
