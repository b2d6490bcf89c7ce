package fsm

// Tombstone remembers when a volume was removed, so that an older entry cannot bring it back.
type Tombstone struct {
	Domain string `codec:"d"`
	ID     string `codec:"i"`
	Stamp  Stamp  `codec:"s"`
}

// maxTombs bounds the tombstones of all domains together. When there are more, the domain's oldest is replaced by its floor.
const maxTombs = 8192

func (t *tables) bury(domain, id string, at Stamp) {
	key := volumeKey(domain, id)
	t.unbury(key, domain)
	t.tombs.put(key, Tombstone{Domain: domain, ID: id, Stamp: at})
	t.tombOrder.put(domain+"/"+at.key()+key, key)
	if t.tombs.Len() > maxTombs {
		t.forgetOldest(domain)
	}
}

func (t *tables) unbury(key, domain string) {
	if tomb, ok := t.tombs.remove(key); ok {
		t.tombOrder.remove(domain + "/" + tomb.Stamp.key() + key)
	}
}

// forgetOldest trades the oldest tombstone of a domain for a higher floor, which refuses at least as much.
func (t *tables) forgetOldest(domain string) {
	for _, key := range t.tombOrder.Prefix(domain + "/") {
		tomb, _ := t.tombs.Get(key)
		t.raiseFloor(domain, Stamp{tomb.Stamp.Epoch, tomb.Stamp.Seq + 1})
		return
	}
}

// raiseFloor refuses everything older than at for the domain from now on, and drops the tombstones that say no more.
func (t *tables) raiseFloor(domain string, at Stamp) {
	if old, ok := t.floors.Get(domain); ok && at.Compare(old) <= 0 {
		return
	}
	t.floors.put(domain, at)
	var old []Tombstone
	for _, key := range t.tombOrder.Prefix(domain + "/") {
		tomb, _ := t.tombs.Get(key)
		if tomb.Stamp.Compare(at) >= 0 {
			break
		}
		old = append(old, tomb)
	}
	for _, tomb := range old {
		t.unbury(volumeKey(tomb.Domain, tomb.ID), tomb.Domain)
	}
}
