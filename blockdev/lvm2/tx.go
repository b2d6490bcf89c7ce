package lvm2

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// LVOptions are the choices for a new volume. The zero value is fine.
type LVOptions struct {
	Tags       []string
	Contiguous bool   // one run of extents or ErrNoSpace
	Place      *Place // where it must begin; nil for anywhere
	ID         string // id to give; empty for a random one
}

// Tx is a set of changes on a copy of the volume group. It costs a copy of a few slices; the volumes are shared with
// the group it was begun on. It is not safe for concurrent use. One that is not committed is simply dropped.
type Tx struct {
	base    *VG
	vg      *VG
	host    string
	now     int64
	changed int
	done    bool
	added   []*pvScan // physical volumes that join the group, in the order of vg.PVs
}

// Begin starts a change of the volume group as it is now.
func (g *Group) Begin() *Tx { return begin(g.VG(), g.opt.Host, g.opt.Now().Unix()) }

func begin(base *VG, host string, now int64) *Tx {
	vg := *base
	vg.LVs = slices.Clone(base.LVs)
	vg.index = base.index.clone()
	vg.free = base.free.clone()
	return &Tx{base: base, vg: &vg, host: host, now: now}
}

// VG is the volume group with the changes made so far. Its Seqno is still the old one. It goes on changing with the
// transaction.
func (tx *Tx) VG() *VG { return tx.vg }

// Changed tells whether there is anything to commit.
func (tx *Tx) Changed() bool { return tx.changed > 0 }

// CreateLV adds a linear volume of at least bytes, rounded up to extents.
func (tx *Tx) CreateLV(name string, bytes int64, o LVOptions) (*LV, error) {
	if err := tx.checkNew(name, bytes, &o); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", name, err)
	}
	free := tx.vg.free.clone()
	a := allocation{vg: tx.vg, free: &free, contiguous: o.Contiguous, place: o.Place}
	if err := a.fresh(tx.vg.Extents(bytes)); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", name, err)
	}
	text := lvText(name, o.ID, o.Tags, tx.now, oneLine(tx.host), tx.vg.PVs, a.segments(0))
	lv, err := tx.vg.parseLV(text)
	if err != nil {
		return nil, fmt.Errorf("create volume %s: %w", name, err)
	}
	tx.insert(lv, free)
	return lv, nil
}

// checkNew checks what a new volume is asked to be and fills in the id.
func (tx *Tx) checkNew(name string, bytes int64, o *LVOptions) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if err := checkNewLV(tx.vg.Name, name); err != nil {
		return err
	}
	if tx.vg.LV(name) != nil || slices.Contains(tx.vg.history, name) {
		return fmt.Errorf("volume %s: %w", name, ErrExists)
	}
	if err := tx.checkSize(bytes); err != nil {
		return err
	}
	if o.Place != nil && (o.Place.PV < 0 || o.Place.PV >= len(tx.vg.PVs)) {
		return fmt.Errorf("%w: no physical volume %d", ErrInvalid, o.Place.PV)
	}
	tags, err := mergeTags(nil, o.Tags)
	if err != nil {
		return err
	}
	o.Tags = tags
	return tx.pickID(o)
}

// checkSize refuses sizes that make no sense, and allocation next to volumes whose extents are not known.
func (tx *Tx) checkSize(bytes int64) error {
	if bytes <= 0 || tx.vg.Extents(bytes) > math.MaxUint32 {
		return fmt.Errorf("%w: size of %d bytes", ErrInvalid, bytes)
	}
	if tx.vg.unknown {
		return fmt.Errorf("%w: a segment type of a newer lvm2 is in use, so free extents cannot be told", ErrForeign)
	}
	return nil
}

// pickID gives the volume a new id, or checks the one that was asked for.
func (tx *Tx) pickID(o *LVOptions) (err error) {
	if o.ID == "" {
		o.ID = NewID()
		return nil
	}
	if o.ID, err = canonicalID(o.ID); err != nil {
		return err
	}
	for _, lv := range tx.vg.LVs {
		if lv.ID == o.ID {
			return fmt.Errorf("id %s is that of volume %s: %w", o.ID, lv.Name, ErrExists)
		}
	}
	return nil
}

// segments makes linear segments of the runs that were taken, joining neighbours; the first starts at extent first.
func (a *allocation) segments(first int64) []Seg {
	var out []Seg
	for i, r := range a.out {
		if n := len(out) - 1; n >= 0 {
			last := out[n].Areas[0]
			if last.PV == a.pvs[i] && last.StartPE+out[n].ExtentCount == r.start {
				out[n].ExtentCount += r.count
				first += r.count
				continue
			}
		}
		out = append(out, Seg{first, r.count, "striped", []Area{{a.pvs[i], r.start}}})
		first += r.count
	}
	return out
}

// insert puts a new volume behind the last visible one.
func (tx *Tx) insert(lv *LV, free freeMap) {
	at := len(tx.vg.LVs)
	for at > 0 && !tx.vg.LVs[at-1].Visible() {
		at--
	}
	tx.vg.LVs = slices.Insert(tx.vg.LVs, at, lv)
	tx.vg.index.set(lv.Name, lv)
	tx.vg.free = free
	tx.changed++
}

// ours returns a volume that may be changed.
func (tx *Tx) ours(name string) (*LV, error) {
	if err := tx.usable(); err != nil {
		return nil, err
	}
	lv := tx.vg.LV(name)
	if lv == nil {
		return nil, fmt.Errorf("volume %s: %w", name, ErrNotFound)
	}
	if lv.Foreign {
		return nil, fmt.Errorf("volume %s is not a plain linear one: %w", name, ErrForeign)
	}
	return lv, nil
}

// usable tells whether the transaction can take changes at all.
func (tx *Tx) usable() error {
	if tx.done {
		return ErrDone
	}
	if len(tx.vg.foreign) > 0 {
		return fmt.Errorf("volume group %s: %w: %s", tx.vg.Name, ErrForeign, strings.Join(tx.vg.foreign, ", "))
	}
	return nil
}

// RemoveLV removes a volume and frees its extents. It must not be in use on any host.
func (tx *Tx) RemoveLV(name string) error {
	lv, err := tx.ours(name)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	free := tx.vg.free.clone()
	if plant.On(plant.DoubleFree) {
		freeAgain(&free, tx.vg, lv)
	}
	for i := range lv.Segments {
		err := lv.Segments[i].used(func(pv int, r run, _ bool) error {
			return free.giveUsable(pv, r, tx.vg.PVs[pv].usable)
		})
		if err != nil {
			return fmt.Errorf("remove volume %s: %w", name, err)
		}
	}
	i := slices.Index(tx.vg.LVs, lv)
	tx.vg.LVs = slices.Delete(tx.vg.LVs, i, i+1)
	tx.vg.index.set(name, nil)
	tx.vg.free = free
	tx.changed++
	return nil
}

// giveUsable frees the part of a run that lies on the device; the rest was never in the map.
func (f *freeMap) giveUsable(pv int, r run, usable int64) error {
	r.count = min(r.end(), usable) - r.start
	if r.count <= 0 {
		return nil
	}
	return f.give(pv, r)
}

// ExtendLV makes a volume at least bytes big. One that is as big already stays as it is, which is no error.
func (tx *Tx) ExtendLV(name string, bytes int64) (*LV, error) {
	lv, err := tx.ours(name)
	if err == nil {
		err = tx.checkSize(bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("extend: %w", err)
	}
	more := tx.vg.Extents(bytes) - lv.extents
	if more <= 0 {
		return lv, nil
	}
	free := tx.vg.free.clone()
	a := allocation{vg: tx.vg, free: &free}
	if err := a.grow(lv, more); err != nil {
		return nil, fmt.Errorf("extend volume %s: %w", name, err)
	}
	next, err := tx.edit(lv, func(s *section) { s.grow(lv, &a, tx.vg.PVs) })
	if err != nil {
		return nil, err
	}
	if !plant.On(plant.ExtendTwice) {
		tx.vg.free = free
	}
	return next, nil
}

// edit changes the text of a volume and puts the volume that the new text describes into the group.
func (tx *Tx) edit(lv *LV, change func(*section)) (*LV, error) {
	name, s, err := parseOne(lv.text)
	if err != nil {
		return nil, fmt.Errorf("edit volume %s: %w", lv.Name, err)
	}
	change(s)
	next, err := tx.vg.parseLV(s.print(name))
	if err != nil {
		return nil, fmt.Errorf("edit volume %s: %w", lv.Name, err)
	}
	tx.vg.LVs[slices.Index(tx.vg.LVs, lv)] = next
	tx.vg.index.set(lv.Name, next)
	tx.changed++
	return next, nil
}
