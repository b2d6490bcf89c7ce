package leases

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC-32C with the register starting at the complement of one and no final inversion.
func checksum(b []byte) uint32 { return ^crc32.Update(1, castagnoli, b) }
