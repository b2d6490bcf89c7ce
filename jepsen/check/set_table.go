package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/jepsen/history"
)

// volumeOp is a change or a read of one volume. id is the volume that it is about, as far as anybody was told.
type volumeOp struct {
	op     history.Op
	input  history.VolumeInput
	answer history.VolumeAnswer
	id     string
	may    []string // of a create: what its volume's id may be
}

// listOp is a list that was answered.
type listOp struct {
	op     history.Op
	input  history.VolumeInput
	ids    map[string]string // name -> id
	names  map[string]string // id -> name
	said   map[string]string // id -> description
	stated time.Duration     // how old it says to be
	double []string          // names that it has twice
}

// id is the volume that has a name.
func (l *listOp) id(name string) string { return l.ids[name] }

// volumeHistory is what was done about one name. Ops are in the order of their calls.
type volumeHistory struct {
	name    string
	creates []volumeOp
	deletes []volumeOp
	writes  []volumeOp // of the description
	shows   []volumeOp // answered, also with "not found"
	from    time.Duration
	until   time.Duration
}

// volumeTable is what a record says about volumes.
type volumeTable struct {
	names  []string // in the order of their first operation
	byName map[string]*volumeHistory
	lists  []listOp
	bad    []string // operations whose input or output cannot be read
}

// volumesOf sorts the operations of a record by volume.
func volumesOf(r Record) *volumeTable {
	t := &volumeTable{byName: map[string]*volumeHistory{}}
	ops := slices.Clone(r.Ops)
	slices.SortStableFunc(ops, func(a, b history.Op) int { return int(min(max(a.Call-b.Call, -1), 1)) })
	for _, op := range ops {
		switch op.Kind {
		case history.VolumeList:
			t.addList(op)
		case history.VolumeCreate, history.VolumeDelete, history.VolumeDescribe, history.VolumeShow:
			t.addVolume(op)
		}
	}
	t.learnKeys()
	return t
}

// addList notes a list that was answered; one that failed says nothing.
func (t *volumeTable) addList(op history.Op) {
	if op.Outcome != history.OK {
		return
	}
	l := listOp{op: op, ids: map[string]string{}, names: map[string]string{}, said: map[string]string{}}
	var out history.VolumeListed
	if !t.read(op, &l.input, &out) {
		return
	}
	l.stated = out.Age
	for _, v := range out.Volumes {
		if l.ids[v.Name] != "" {
			l.double = append(l.double, v.Name)
		}
		l.ids[v.Name], l.names[v.ID], l.said[v.ID] = v.ID, v.Name, v.Description
	}
	t.lists = append(t.lists, l)
}

// addVolume notes an operation on one volume.
func (t *volumeTable) addVolume(op history.Op) {
	v := volumeOp{op: op}
	if !t.read(op, &v.input, &v.answer) {
		return
	}
	v.id = v.answer.ID
	if v.id == "" {
		v.id = v.input.ID
	}
	n := t.of(op)
	switch op.Kind {
	case history.VolumeCreate:
		n.creates = append(n.creates, v)
	case history.VolumeDelete:
		n.deletes = append(n.deletes, v)
	case history.VolumeDescribe:
		n.writes = append(n.writes, v)
	case history.VolumeShow:
		if op.Outcome == history.OK || op.Code == api.CodeNotFound {
			n.shows = append(n.shows, v)
		}
	}
}

// of is the history of an operation's name.
func (t *volumeTable) of(op history.Op) *volumeHistory {
	n := t.byName[op.Key]
	if n == nil {
		n = &volumeHistory{name: op.Key, from: op.Call}
		t.byName[op.Key], t.names = n, append(t.names, op.Key)
	}
	n.until = max(n.until, op.Call)
	if op.Outcome != history.Unknown {
		n.until = max(n.until, op.Return)
	}
	return n
}

// read decodes what an operation asked for and was told.
func (t *volumeTable) read(op history.Op, in, out any) bool {
	if err := decode(op, in, out); err != nil {
		t.bad = append(t.bad, err.Error())
		return false
	}
	return true
}

// learnKeys gives creates without an answer the id that another create with the same key was told, or else one of their
// own: the same key is the same volume.
func (t *volumeTable) learnKeys() {
	ids := map[string]string{}
	for _, n := range t.byName {
		for _, c := range n.creates {
			if c.answer.ID != "" && c.op.Outcome == history.OK {
				ids[c.input.Idempotency] = c.answer.ID
			}
		}
	}
	for _, n := range t.byName {
		n.learnIDs(ids, t.lists)
	}
}

// learnIDs fills in the ids of creates without an answer. One that nobody was told may be any of those that the name was
// seen with and that no create is known to have made.
func (n *volumeHistory) learnIDs(ids map[string]string, lists []listOp) {
	known := map[string]bool{}
	for i := range n.creates {
		c := &n.creates[i]
		c.id = ids[c.input.Idempotency]
		known[c.id] = true
	}
	left := n.unexplained(known, lists)
	for i := range n.creates {
		c := &n.creates[i]
		if c.may = []string{c.id}; c.id == "" {
			c.may = append(left[:len(left):len(left)], unseen)
		}
	}
}

// unseen is the id of a volume that nobody ever saw.
const unseen = "unseen"

// unexplained lists the ids that the name was seen with and that no create is known to have made, in the order of sight.
func (n *volumeHistory) unexplained(known map[string]bool, lists []listOp) []string {
	var out []string
	see := func(id string) {
		if id != "" && !known[id] && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for i := range lists {
		see(lists[i].id(n.name))
	}
	for _, ops := range [][]volumeOp{n.shows, n.deletes} {
		for _, v := range ops {
			see(v.answer.ID)
		}
	}
	return out
}

// mayBe tells whether a delete that did not surely fail may have hit a volume.
func (d *volumeOp) mayBe(id string) bool {
	return d.op.Outcome != history.Failed && (d.id == id || d.id == "" || id == "")
}

// deletedDuring tells whether a delete may have come while a create was on its way.
func (n *volumeHistory) deletedDuring(c volumeOp) bool {
	return slices.ContainsFunc(n.deletes, func(d volumeOp) bool {
		return d.mayBe(c.id) && d.op.Call <= c.op.Return && d.op.Return >= c.op.Call
	})
}

// deletedBefore tells whether another delete of the same volume may have come before a delete returned.
func (n *volumeHistory) deletedBefore(d volumeOp) bool {
	return slices.ContainsFunc(n.deletes, func(o volumeOp) bool {
		return o.mayBe(d.id) && o.op.Call <= d.op.Return && (o.op.Client != d.op.Client || o.op.Call != d.op.Call)
	})
}

// runPrefix is what the names of a run have in common: all up to the second dash of the first one. Volumes of others are
// nobody's business here.
func (t *volumeTable) runPrefix() string {
	if len(t.names) == 0 {
		return ""
	}
	parts := strings.SplitN(t.names[0], "-", 3)
	return strings.Join(parts[:min(2, len(parts))], "-") + "-"
}

// decode reads an operation's input, and its output if there is one.
func decode(op history.Op, in, out any) error {
	if len(op.Input) > 0 {
		if err := json.Unmarshal(op.Input, in); err != nil {
			return badOp(op, "input", err)
		}
	}
	if len(op.Output) > 0 {
		if err := json.Unmarshal(op.Output, out); err != nil {
			return badOp(op, "output", err)
		}
	}
	return nil
}

// badOp is an operation that cannot be read, which makes every verdict about it worthless.
func badOp(op history.Op, what string, err error) error {
	return fmt.Errorf("%s by client %d at %s: its %s cannot be read: %w", op.Kind, op.Client, at(op.Call), what, err)
}

// withBad fails a verdict for operations that could not be read.
func withBad(v history.Verdict, bad []string) history.Verdict {
	if len(bad) > 0 {
		v.OK, v.Faults = false, append(v.Faults, bad[:min(maxLines, len(bad))]...)
		v.Summary = fmt.Sprintf("%d operations cannot be read; %s", len(bad), v.Summary)
	}
	return v
}
