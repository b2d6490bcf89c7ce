package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

var (
	keyTerm     = []byte("CurrentTerm")
	keyVoteTerm = []byte("LastVoteTerm")
	keyVote     = []byte("LastVoteCand")
)

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "log.db") }

// open opens a file, without waiting for the disk: what is on it is not the question here.
func open(t testing.TB, path string) *Store {
	t.Helper()
	s, _, err := Open(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func entry(index uint64, size int) *raft.Log {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(index + uint64(i)*7)
	}
	return &raft.Log{Index: index, Term: 1 + index/10, Type: raft.LogCommand, Data: data, AppendedAt: time.Unix(1700000000, int64(index)).UTC()}
}

// stores is what both ours and raft-boltdb's are.
type stores interface {
	raft.LogStore
	raft.StableStore
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes a log with several levels of pages, free pages, and a vote.
func fill(t testing.TB, s stores, entries int) {
	t.Helper()
	must(t, s.SetUint64(keyTerm, 3))
	for i := 1; i <= entries; {
		var batch []*raft.Log
		for range 7 {
			batch = append(batch, entry(uint64(i), 20+i%5*60))
			i++
		}
		must(t, s.StoreLogs(batch))
	}
	must(t, s.DeleteRange(1, uint64(entries/4)))
	must(t, s.SetUint64(keyVoteTerm, 4))
	must(t, s.Set(keyVote, []byte("host-2")))
	must(t, s.SetUint64(keyTerm, 4))
}

// replay is all that Raft can learn from a store.
func replay(s stores) (out []string, err error) {
	first, err := s.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := s.LastIndex()
	if err != nil {
		return nil, err
	}
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return nil, fmt.Errorf("%d: %w", i, err)
		}
		out = append(out, fmt.Sprintf("%d %d %d %x %x %v", l.Index, l.Term, l.Type, l.Data, l.Extensions, l.AppendedAt.UnixNano()))
	}
	for _, k := range [][]byte{keyTerm, keyVoteTerm, keyVote} {
		v, err := s.Get(k)
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s %x", k, v))
	}
	return out, nil
}

func replayed(t testing.TB, s stores) []string {
	t.Helper()
	out, err := replay(s)
	must(t, err)
	return out
}

// TestStore_model: a random history against a map, with the file walked and opened anew in between.
func TestStore_model(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	path := newPath(t)
	s := open(t, path)
	model := map[uint64]*raft.Log{}
	first, next := uint64(1), uint64(1)
	for step := range 300 {
		switch n := r.IntN(10); {
		case n < 6:
			var batch []*raft.Log
			for range 1 + r.IntN(20) {
				l := entry(next, r.IntN(600))
				batch, model[next] = append(batch, l), l
				next++
			}
			must(t, s.StoreLogs(batch))
		case n < 8 && next > first: // a conflict: the tail goes
			from := first + r.Uint64N(next-first)
			must(t, s.DeleteRange(from, next-1))
			for i := from; i < next; i++ {
				delete(model, i)
			}
			next = from
		case next > first: // a snapshot: the head goes
			to := first + r.Uint64N(next-first)
			must(t, s.DeleteRange(first, to))
			for i := first; i <= to; i++ {
				delete(model, i)
			}
			first = to + 1
		}
		must(t, s.SetUint64(keyTerm, uint64(step)))
		if step%20 == 0 {
			must(t, s.Close())
			s = open(t, path)
		}
	}
	must(t, s.Close())
	c, err := Scan(path)
	must(t, err)
	s = open(t, path)
	if next > first && (c.First != first || c.Last != next-1 || c.Since != first) || !c.fresh() {
		t.Errorf("%+v, want %d to %d", c, first, next-1)
	}
	for i := uint64(1); i < next+10; i++ {
		var got raft.Log
		err := s.GetLog(i, &got)
		want, there := model[i]
		if there != (err == nil) || there && (got.Index != i || got.Term != want.Term || !bytes.Equal(got.Data, want.Data)) || !there && !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if v, err := s.GetUint64(keyTerm); err != nil || v != 299 {
		t.Errorf("term %d, %v", v, err)
	}
	if _, err := s.Get(keyVote); err == nil || err.Error() != "not found" {
		t.Errorf("Raft knows a missing value by another text: %v", err)
	}
	if err := s.Set([]byte("other"), nil); err == nil {
		t.Error("a value that Scan would refuse was written")
	}
}

// TestStore_older: a program without checksums reads our files, we read its, and a file may go back and forth.
func TestStore_older(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	old := func() *raftboltdb.BoltStore {
		b, err := raftboltdb.New(raftboltdb.Options{Path: path, NoSync: true, BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}})
		must(t, err)
		return b
	}
	b := old()
	fill(t, b, 200)
	want := replayed(t, b)
	must(t, b.Close())
	for round := range 3 {
		s := open(t, path)
		if got := replayed(t, s); !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: we read something else", round)
		}
		must(t, s.StoreLog(entry(1000+uint64(2*round), 50)))
		must(t, s.DeleteRange(1000, 2000))
		last, err := s.LastIndex()
		must(t, err)
		must(t, s.StoreLog(entry(last+1, 100)))
		must(t, s.SetUint64(keyVoteTerm, uint64(10+round)))
		want = replayed(t, s)
		must(t, s.Close())
		b := old()
		if got := replayed(t, b); !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: the older program reads something else", round)
		}
		must(t, b.StoreLog(entry(last+2, 100)))
		must(t, b.SetUint64(keyTerm, uint64(20+round)))
		want = replayed(t, b)
		must(t, b.Close())
		if c, err := Scan(path); err != nil || c.fresh() {
			t.Fatalf("the record still counts after the older program wrote: %v", err)
		}
	}
}

// TestOpen_flips turns over bits in every page. Either nothing changes for Raft, or Open refuses and says why.
func TestOpen_flips(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	fill(t, s, 280)
	want := replayed(t, s)
	must(t, s.Close())
	flips(t, path, func(path string) {
		s, _, err := Open(path, time.Second)
		if err != nil {
			var d *DamagedError
			if !errors.As(err, &d) || d.Path != path {
				t.Fatalf("refused for another reason: %v", err)
			}
			return
		}
		defer s.Close()
		if got, err := replay(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("opened, and read something else: %v", err)
		}
	})
}

// TestOpen_flipsOlder: a file without checksums cannot show all damage, but none ends the process.
func TestOpen_flipsOlder(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	b, err := raftboltdb.New(raftboltdb.Options{Path: path, NoSync: true, BoltOptions: &bbolt.Options{NoFreelistSync: true}})
	must(t, err)
	fill(t, b, 100)
	must(t, b.Close())
	refused := 0
	flips(t, path, func(path string) {
		if _, err := Scan(path); err != nil {
			refused++
			return
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, NoSync: true}) // it would panic in a goroutine of its own
		if err != nil {
			t.Fatal(err)
		}
		must(t, db.Close())
	})
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// flips calls fn with each of many damaged copies: random bits of each page, most of them at its beginning, where its structure is.
func flips(t *testing.T, path string, fn func(path string)) {
	t.Helper()
	whole, err := os.ReadFile(path)
	must(t, err)
	r := rand.New(rand.NewPCG(3, 4))
	bad := path + ".bad"
	n := 0
	for page := 0; page < len(whole); page += 4096 {
		for i := range 18 {
			at := page + r.IntN(36)
			if i >= 12 {
				at = page + r.IntN(4096)
			}
			b := bytes.Clone(whole)
			b[at] ^= 1 << r.IntN(8)
			must(t, os.WriteFile(bad, b, 0o600))
			fn(bad)
			n++
		}
	}
	must(t, os.WriteFile(bad, whole[:len(whole)/2], 0o600)) // and a file that was cut off
	fn(bad)
	t.Logf("%d damaged files of %d pages", n, len(whole)/4096)
}

// TestOpen_planted: each kind of damage by name, made by bbolt itself, so that only the checksums can see it.
func TestOpen_planted(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(tx *bbolt.Tx) error{
		"an entry is gone": func(tx *bbolt.Tx) error { return tx.Bucket(logsBucket).Delete(logKey(90)) },
		"an entry is an earlier one": func(tx *bbolt.Tx) error {
			b := tx.Bucket(logsBucket)
			return b.Put(logKey(90), bytes.Clone(b.Get(logKey(89))))
		},
		"the vote is another": func(tx *bbolt.Tx) error { return tx.Bucket(confBucket).Put(keyVote, []byte("host-3")) },
		"the term is gone":    func(tx *bbolt.Tx) error { return tx.Bucket(confBucket).Delete(keyTerm) },
		"a stranger in conf":  func(tx *bbolt.Tx) error { return tx.Bucket(confBucket).Put([]byte("x"), nil) },
		"another bucket":      func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err },
		"a record of later": func(tx *bbolt.Tx) error {
			return tx.Bucket(confBucket).Put(recordKey, record{uint64(tx.ID()) + 1, 0}.encode())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			s := open(t, path)
			fill(t, s, 100)
			must(t, s.db.Update(func(tx *bbolt.Tx) error {
				if err := plant(tx); err != nil {
					return err
				}
				conf := tx.Bucket(confBucket)
				if r, err := decodeRecord(conf.Get(recordKey)); err == nil && r.tx < uint64(tx.ID()) { // as if it were of the same transaction
					return conf.Put(recordKey, record{uint64(tx.ID()), r.sum}.encode())
				}
				return nil
			}))
			must(t, s.Close())
			var d *DamagedError
			if _, _, err := Open(path, time.Second); !errors.As(err, &d) {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

// TestStore_GetLog_damaged: damage that comes after the start is seen when the entry is read.
func TestStore_GetLog_damaged(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	fill(t, s, 100)
	must(t, s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(logsBucket)
		v := bytes.Clone(b.Get(logKey(90)))
		v[bytes.Index(v, []byte("Data"))+12] ^= 4
		return b.Put(logKey(90), v)
	}))
	var l raft.Log
	var d *DamagedError
	if err := s.GetLog(90, &l); !errors.As(err, &d) || d.Path != path {
		t.Errorf("%+v, %v", l, err)
	}
	if err := s.GetLog(91, &l); err != nil {
		t.Error(err)
	}
	if err := s.SetUint64(keyTerm, 9); !errors.As(err, &d) {
		t.Errorf("it writes on after somebody else has: %v", err)
	}
}

// BenchmarkScan is what the walk costs at each start.
func BenchmarkScan(b *testing.B) {
	path := newPath(b)
	s := open(b, path)
	for i := uint64(1); i <= 10240; i += 64 {
		var batch []*raft.Log
		for j := range uint64(64) {
			batch = append(batch, entry(i+j, 400))
		}
		must(b, s.StoreLogs(batch))
	}
	must(b, s.Close())
	fi, err := os.Stat(path)
	must(b, err)
	b.SetBytes(fi.Size())
	for b.Loop() {
		if _, err := Scan(path); err != nil {
			b.Fatal(err)
		}
	}
}
