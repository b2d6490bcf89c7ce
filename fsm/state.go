package fsm

// State is an immutable picture of everything replicated, as of Index. Any number of goroutines may read it.
type State struct {
	Meta
	Index uint64 // the last command applied
	// TooOld is not empty when this replica met a command that it does not know and stopped applying.
	TooOld string

	Hosts   Table[Host]        // by name
	Removed Table[RemovedHost] // hosts that left or were removed, by name
	Pools   Table[Pool]        // by id
	Domains Table[Domain]      // by id
	Tokens  Table[Token]       // by id
	Proofs  Table[Proof]       // by ProofKey
	Config  Table[string]

	Fences       Table[FenceOp]     // by id, open ones and those that ended last
	FenceDevices Table[FenceDevice] // by FenceDeviceKey

	openFences Table[string] // host -> id of its open fence operation

	volumes Table[Volume] // by volumeKey
	byID    Table[string] // volume id + "/" + domain -> volumeKey
	byName  Table[string] // name + NUL + volumeKey -> volumeKey
	events  Table[Event]  // by eventKey
}

// Meta is what there is only one of.
type Meta struct {
	ClusterID   string `codec:"i" json:"cluster_id"`
	ClusterName string `codec:"n" json:"cluster_name"`
	Created     int64  `codec:"c" json:"created"`
	Version     int    `codec:"v" json:"version"` // the active version, see VersionSet
	NextHostID  int    `codec:"h" json:"-"`       // the lowest id never given out
}

// tables is the writer's side of State; only the applying goroutine touches it.
type tables struct {
	meta    Meta
	hosts   table[Host]
	removed table[RemovedHost]
	pools   table[Pool]
	domains table[Domain]
	tokens  table[Token]
	proofs  table[Proof]
	config  table[string]

	fences       table[FenceOp]
	fenceDevices table[FenceDevice]
	openFences   table[string]

	volumes table[Volume]
	byID    table[string]
	byName  table[string]
	events  table[Event]

	floors    table[Stamp]     // domain -> entries older than this are refused outright
	tombs     table[Tombstone] // volumeKey -> when it was removed
	tombOrder table[string]    // domain + "/" + stamp + volumeKey -> volumeKey

	requests     table[request] // request id -> its outcome
	requestOrder table[string]  // log index -> request id
}

func newTables() *tables {
	return &tables{
		hosts: newTable[Host](), removed: newTable[RemovedHost](), pools: newTable[Pool](), domains: newTable[Domain](),
		tokens: newTable[Token](), proofs: newTable[Proof](), config: newTable[string](),
		fences: newTable[FenceOp](), fenceDevices: newTable[FenceDevice](), openFences: newTable[string](),
		volumes: newTable[Volume](), byID: newTable[string](), byName: newTable[string](), events: newTable[Event](),
		floors: newTable[Stamp](), tombs: newTable[Tombstone](), tombOrder: newTable[string](),
		requests: newTable[request](), requestOrder: newTable[string](),
	}
}

// publish makes the readers' picture. Tables that did not change are shared with the last one.
func (t *tables) publish(index uint64, tooOld string) *State {
	return &State{
		Meta: t.meta, Index: index, TooOld: tooOld,
		Hosts: t.hosts.publish(), Removed: t.removed.publish(), Pools: t.pools.publish(), Domains: t.domains.publish(),
		Tokens: t.tokens.publish(), Proofs: t.proofs.publish(), Config: t.config.publish(),
		Fences: t.fences.publish(), FenceDevices: t.fenceDevices.publish(), openFences: t.openFences.publish(),
		volumes: t.volumes.publish(), byID: t.byID.publish(), byName: t.byName.publish(), events: t.events.publish(),
	}
}

// Initialised says whether the cluster was ever set up.
func (s *State) Initialised() bool { return s.ClusterID != "" }

// Pool is the cluster's pool; false when there is none yet.
func (s *State) Pool() (Pool, bool) {
	for _, p := range s.Pools.All() {
		return p, true
	}
	return Pool{}, false
}

// HostByID finds the host that holds a host id.
func (s *State) HostByID(id int) (Host, bool) {
	for _, h := range s.Hosts.All() {
		if h.HostID == id {
			return h, true
		}
	}
	return Host{}, false
}

// Volumes is the whole mirror, by domain and volume id.
func (s *State) Volumes() Table[Volume] { return s.volumes }

// VolumesOf lists the volumes of one domain by id.
func (s *State) VolumesOf(domain string) []Volume {
	var out []Volume
	for _, v := range s.volumes.Prefix(domain + "/") {
		out = append(out, v)
	}
	return out
}

// Volume finds a volume of a domain.
func (s *State) Volume(domain, id string) (Volume, bool) { return s.volumes.Get(volumeKey(domain, id)) }

// VolumesByID lists the volumes with this id; a template may have a copy in more than one domain.
func (s *State) VolumesByID(id string) []Volume { return s.lookup(s.byID.Prefix(id + "/")) }

// VolumesByName lists the volumes with this name. Names are not unique on disk, so there may be several.
func (s *State) VolumesByName(name string) []Volume { return s.lookup(s.byName.Prefix(name + "\x00")) }

func (s *State) lookup(keys func(func(string, string) bool)) []Volume {
	var out []Volume
	for _, key := range keys {
		if v, ok := s.volumes.Get(key); ok {
			out = append(out, v)
		}
	}
	return out
}
