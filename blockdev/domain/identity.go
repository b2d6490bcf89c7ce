package domain

import (
	"fmt"
	"strings"
)

// Names of the keys that this package reads or writes.
const (
	keyVersion     = "VERSION"
	keySDUUID      = "SDUUID"
	keyType        = "TYPE"
	keyClass       = "CLASS"
	keyRole        = "ROLE"
	keyDescription = "DESCRIPTION"
	keyPoolUUID    = "POOL_UUID"
	keyAlignment   = "ALIGNMENT"
	keyBlockSize   = "BLOCK_SIZE"
	keyVGUUID      = "VGUUID"
)

const (
	roleMaster  = "Master"
	roleRegular = "Regular"
)

// identity is the typed view of the keys.
type identity struct {
	uuid, name, role, class, kind string
	pools                         []string
	geo                           geometry
}

// parseIdentity checks the required keys. It fills in what it can even when it fails.
func parseIdentity(k Keys) (identity, error) {
	id := identity{
		uuid: k[keySDUUID], name: k[keyDescription], class: k[keyClass], kind: k[keyType],
		role: capitalise(k[keyRole]), pools: parsePools(k[keyPoolUUID]),
		geo: geometry{version: 5, sector: 512, align: mib},
	}
	for _, key := range []string{keyVersion, keyType, keyClass, keyRole, keyDescription} {
		if _, ok := k[key]; !ok {
			return id, fmt.Errorf("key %s is missing: %w", key, ErrBadKeys)
		}
	}
	version, err := k.number(keyVersion)
	if err != nil {
		return id, err
	}
	if version < 3 || version > 5 {
		return id, fmt.Errorf("version %d, known are 3, 4 and 5: %w", version, ErrVersion)
	}
	id.geo.version = int(version)
	return id, id.geo.parse(k)
}

func capitalise(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.ToLower(s[1:])
}

// parsePools splits a comma list; the nil UUID means none.
func parsePools(list string) []string {
	var pools []string
	for p := range strings.SplitSeq(list, ",") {
		if p = strings.TrimSpace(p); p != "" && p != NilUUID {
			pools = append(pools, p)
		}
	}
	return pools
}

// newKeys are the keys of a new version 5 domain, without those of its PVs.
func newKeys(o CreateOptions, vgUUID string) Keys {
	k := Keys{
		keyVersion: "5", keySDUUID: o.UUID, keyType: o.Type, keyClass: "Data", keyRole: roleRegular,
		keyDescription: o.Name, keyPoolUUID: o.PoolUUID, keyAlignment: "1048576", keyBlockSize: "512",
		keyVGUUID: vgUUID, "LOCKPOLICY": "",
		"LOCKRENEWALINTERVALSEC": "5", "LEASETIMESEC": "60", "IOOPTIMEOUTSEC": "10", "LEASERETRIES": "3",
	}
	if o.Master {
		k[keyRole] = roleMaster
		k["LOCKPOLICY"] = "ON"
		k["MASTER_VERSION"] = "1"
		k["POOL_DESCRIPTION"] = o.PoolName
		k["POOL_DOMAINS"] = o.UUID + ":Active"
		k["POOL_SPM_ID"], k["POOL_SPM_LVER"] = "-1", "-1"
	}
	return k
}
