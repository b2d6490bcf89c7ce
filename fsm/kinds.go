package fsm

// kind is a command's number in the log. Append only: a number that was ever released keeps its meaning.
type kind byte

const (
	kindClusterInit   kind = 1
	kindHostJoin      kind = 2
	kindHostUpdate    kind = 3
	kindHostRemove    kind = 4
	kindPoolCreate    kind = 5
	kindSPMUpdate     kind = 6
	kindSPMDesire     kind = 7
	kindDomainPut     kind = 8
	kindDomainRemove  kind = 9
	kindVolumesPut    kind = 10
	kindVolumesRemove kind = 11
	kindMirrorReplace kind = 12
	kindEventAdd      kind = 13
	kindTokenCreate   kind = 14
	kindTokenUse      kind = 15
	kindTokenRevoke   kind = 16
	kindProofAdd      kind = 17
	kindConfigSet     kind = 18
	kindVersionSet    kind = 19

	kindPoolMaster        kind = 20
	kindHostWish          kind = 21
	kindDomainUpdate      kind = 22
	kindFenceDevicePut    kind = 23
	kindFenceDeviceRemove kind = 24
	kindFenceBegin        kind = 25
	kindFenceAdvance      kind = 26
	kindFenceEnd          kind = 27
)

type commandSpec struct {
	name      string
	version   byte
	skippable bool
	empty     func() Command
}

// registry is never written after the program's start.
var registry = map[kind]commandSpec{
	kindClusterInit:   {"cluster-init", 1, false, func() Command { return &ClusterInit{} }},
	kindHostJoin:      {"host-join", 1, false, func() Command { return &HostJoin{} }},
	kindHostUpdate:    {"host-update", 1, false, func() Command { return &HostUpdate{} }},
	kindHostRemove:    {"host-remove", 1, false, func() Command { return &HostRemove{} }},
	kindPoolCreate:    {"pool-create", 1, false, func() Command { return &PoolCreate{} }},
	kindSPMUpdate:     {"spm-update", 1, false, func() Command { return &SPMUpdate{} }},
	kindSPMDesire:     {"spm-desire", 1, false, func() Command { return &SPMDesire{} }},
	kindDomainPut:     {"domain-put", 1, false, func() Command { return &DomainPut{} }},
	kindDomainRemove:  {"domain-remove", 1, false, func() Command { return &DomainRemove{} }},
	kindVolumesPut:    {"volumes-put", 1, false, func() Command { return &VolumesPut{} }},
	kindVolumesRemove: {"volumes-remove", 1, false, func() Command { return &VolumesRemove{} }},
	kindMirrorReplace: {"mirror-replace", 1, false, func() Command { return &MirrorReplace{} }},
	kindEventAdd:      {"event-add", 1, true, func() Command { return &EventAdd{} }},
	kindTokenCreate:   {"token-create", 1, false, func() Command { return &TokenCreate{} }},
	kindTokenUse:      {"token-use", 1, false, func() Command { return &TokenUse{} }},
	kindTokenRevoke:   {"token-revoke", 1, false, func() Command { return &TokenRevoke{} }},
	kindProofAdd:      {"proof-add", 1, false, func() Command { return &ProofAdd{} }},
	kindConfigSet:     {"config-set", 1, false, func() Command { return &ConfigSet{} }},
	kindVersionSet:    {"version-set", 1, false, func() Command { return &VersionSet{} }},

	kindPoolMaster:        {"pool-master", 1, false, func() Command { return &PoolMaster{} }},
	kindHostWish:          {"host-wish", 1, false, func() Command { return &HostWish{} }},
	kindDomainUpdate:      {"domain-update", 1, false, func() Command { return &DomainUpdate{} }},
	kindFenceDevicePut:    {"fence-device-put", 1, false, func() Command { return &FenceDevicePut{} }},
	kindFenceDeviceRemove: {"fence-device-remove", 1, false, func() Command { return &FenceDeviceRemove{} }},
	kindFenceBegin:        {"fence-begin", 1, false, func() Command { return &FenceBegin{} }},
	kindFenceAdvance:      {"fence-advance", 1, false, func() Command { return &FenceAdvance{} }},
	kindFenceEnd:          {"fence-end", 1, false, func() Command { return &FenceEnd{} }},
}

// CommandName is the name of the command in a log entry, for logs and tools.
func CommandName(data []byte) string {
	if len(data) > 0 {
		if s, ok := registry[kind(data[0]&^skippableBit)]; ok {
			return s.name
		}
	}
	return "unknown"
}
