package fsm

import (
	"iter"

	"github.com/google/btree"
)

// treeDegree trades depth against the bytes copied for one change; 16 keeps 10,000 entries in three levels.
const treeDegree = 16

type entry[V any] struct {
	key string
	val *V
}

func entryLess[V any](a, b entry[V]) bool { return a.key < b.key }

// Table is an immutable map from strings to V, ordered by key. It is safe for any number of readers.
type Table[V any] struct{ tree *btree.BTreeG[entry[V]] }

// Get returns a copy of the value under key.
func (t Table[V]) Get(key string) (V, bool) {
	if t.tree != nil {
		if e, ok := t.tree.Get(entry[V]{key: key}); ok {
			return *e.val, true
		}
	}
	var zero V
	return zero, false
}

// Has says whether key is present.
func (t Table[V]) Has(key string) bool {
	return t.tree != nil && t.tree.Has(entry[V]{key: key})
}

// Len is the number of entries.
func (t Table[V]) Len() int {
	if t.tree == nil {
		return 0
	}
	return t.tree.Len()
}

// All yields every entry in the order of the keys.
func (t Table[V]) All() iter.Seq2[string, V] { return t.From("") }

// From yields the entries whose key is not below the given one.
func (t Table[V]) From(key string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if t.tree == nil {
			return
		}
		t.tree.AscendGreaterOrEqual(entry[V]{key: key}, func(e entry[V]) bool { return yield(e.key, *e.val) })
	}
}

// Prefix yields the entries whose key begins with prefix.
func (t Table[V]) Prefix(prefix string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for k, v := range t.From(prefix) {
			if len(k) < len(prefix) || k[:len(prefix)] != prefix || !yield(k, v) {
				return
			}
		}
	}
}

// Values returns all values in the order of the keys.
func (t Table[V]) Values() []V {
	out := make([]V, 0, t.Len())
	for _, v := range t.All() {
		out = append(out, v)
	}
	return out
}

// table is the writer's side. Only the goroutine that applies commands touches it; published is a clone that shares
// every node not changed since.
type table[V any] struct {
	Table[V]
	published Table[V]
	dirty     bool
}

func newTable[V any]() table[V] {
	return table[V]{Table: Table[V]{tree: btree.NewG(treeDegree, entryLess[V])}, dirty: true}
}

func (t *table[V]) put(key string, v V) {
	t.dirty = true
	t.tree.ReplaceOrInsert(entry[V]{key: key, val: &v})
}

func (t *table[V]) remove(key string) (V, bool) {
	t.dirty = true
	e, ok := t.tree.Delete(entry[V]{key: key})
	if !ok {
		var zero V
		return zero, false
	}
	return *e.val, true
}

// removeFirst drops the entry with the smallest key.
func (t *table[V]) removeFirst() (string, V) {
	t.dirty = true
	e, ok := t.tree.DeleteMin()
	if !ok {
		var zero V
		return "", zero
	}
	return e.key, *e.val
}

// publish returns an immutable copy; it costs nothing when nothing changed and O(1) when something did.
func (t *table[V]) publish() Table[V] {
	if t.dirty {
		t.published = Table[V]{tree: t.tree.Clone()}
		t.dirty = false
	}
	return t.published
}
