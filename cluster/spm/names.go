package spm

import (
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// names keeps volume names and ids unique over all served domains. Within one domain its writer does.
type names struct {
	mu   sync.Mutex
	byID map[string]use
	ids  map[string]map[string]bool // name -> ids of volumes with it
}

// use is one volume, there or about to be.
type use struct {
	domain, name, image string
	pending             int // creations under way
}

func newNames() *names {
	return &names{byID: map[string]use{}, ids: map[string]map[string]bool{}}
}

// load replaces all that is known of a domain.
func (n *names) load(domainID string, vols []domain.Volume) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unloadLocked(domainID)
	for _, v := range vols {
		n.add(v.ID, use{domainID, v.Name, v.Image, n.byID[v.ID].pending})
	}
}

// unload forgets a domain.
func (n *names) unload(domainID string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unloadLocked(domainID)
}

// unloadLocked is unload; caller holds mu.
func (n *names) unloadLocked(domainID string) {
	for id, u := range n.byID {
		if u.domain == domainID && u.pending == 0 {
			n.drop(id)
		}
	}
}

// claim reserves id and name for a volume of domain u, or says who has them.
func (n *names) claim(id string, u use) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old, ok := n.byID[id]; ok && old.domain != u.domain {
		return fmt.Errorf("volume %s exists in domain %s: %w", id, old.domain, domain.ErrConflict)
	}
	if err := n.taken(u); err != nil {
		return err
	}
	u.pending = n.byID[id].pending + 1
	n.drop(id)
	n.add(id, u)
	return nil
}

// taken says which volume of another domain has u's name; caller holds mu.
func (n *names) taken(u use) error {
	for other := range n.ids[u.name] {
		if o := n.byID[other]; o.domain != u.domain && o.image != u.image {
			id, _, _ := strings.Cut(other, reserved)
			return fmt.Errorf("%q is the name of volume %s in domain %s: %w", u.name, id, o.domain, domain.ErrNameTaken)
		}
	}
	return nil
}

// reserved stands between a volume's id and the name that is reserved for it, in the key of the reservation.
const reserved = "\x00"

// reserve takes u's name for a volume beside the one it has, or says who has it.
func (n *names) reserve(id string, u use) (key string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.taken(u); err != nil {
		return "", err
	}
	key = id + reserved + u.name
	u.pending = n.byID[key].pending + 1
	n.add(key, u)
	return key, nil
}

// release ends a reservation. If the outcome of the renaming is not known it stays until the domain is loaded again.
func (n *names) release(key string, unknown bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.byID[key]
	u.pending--
	if n.drop(key); u.pending > 0 || unknown {
		n.add(key, u)
	}
}

// renamed notes what a volume is called now, which look says.
func (n *names) renamed(id string, look func(id string) (domain.Volume, bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	u, known := n.byID[id]
	vol, ok := look(id) // under mu: of several renamings the last one counts
	if !known || !ok {
		return // deleted since, or its domain was unloaded
	}
	n.drop(id)
	u.name = vol.Name
	n.add(id, u)
}

// settle ends a claim: the volume stays known if it is there, or if another request for it is under way.
func (n *names) settle(domainID, id string, vol domain.Volume, there bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.byID[id]
	u.pending = max(u.pending-1, 0)
	n.drop(id)
	switch {
	case there:
		n.add(id, use{domainID, vol.Name, vol.Image, u.pending})
	case u.pending > 0:
		n.add(id, u)
	}
}

// removed forgets a volume, unless a creation of it is under way.
func (n *names) removed(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byID[id].pending == 0 {
		n.drop(id)
	}
}

// add notes a volume; caller holds mu.
func (n *names) add(id string, u use) {
	n.byID[id] = u
	if u.name == "" {
		return
	}
	if n.ids[u.name] == nil {
		n.ids[u.name] = map[string]bool{}
	}
	n.ids[u.name][id] = true
}

// drop forgets a volume; caller holds mu.
func (n *names) drop(id string) {
	u, ok := n.byID[id]
	if !ok {
		return
	}
	delete(n.byID, id)
	delete(n.ids[u.name], id)
	if len(n.ids[u.name]) == 0 {
		delete(n.ids, u.name)
	}
}
