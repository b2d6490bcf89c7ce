package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// ErrKeyNotFound is returned by Get. Raft knows it by its text alone.
var ErrKeyNotFound = errors.New("not found")

// Store is Raft's log and stable store in one file.
type Store struct {
	path string
	db   *bbolt.DB

	mu   sync.Mutex // guards conf
	conf map[string][]byte
}

// Open checks the file and opens it, or makes it. Nobody else may use it; lockWait bounds the wait for bbolt's lock.
func Open(path string, lockWait time.Duration) (*Store, *Content, error) {
	c, err := Scan(path)
	if err != nil {
		return nil, nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		// Without these, a file that once was large writes its whole freelist on each commit.
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: lockWait,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("opening Raft's log %s: %w", path, err)
	}
	s := &Store{path: path, db: db, conf: c.conf}
	if s.conf == nil {
		s.conf = map[string][]byte{}
	}
	if !c.fresh() || c.txn == 0 {
		if err := s.adopt(c.sum); err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
	}
	return s, c, nil
}

// adopt makes the buckets, and the record of a file that has none of its last transaction.
func (s *Store) adopt(sum uint64) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(logsBucket)
		if err != nil {
			return err
		}
		conf, err := tx.CreateBucketIfNotExists(confBucket)
		if err != nil {
			return err
		}
		return conf.Put(recordKey, record{uint64(tx.ID()), sum}.encode())
	})
	if err != nil {
		return fmt.Errorf("preparing Raft's log %s: %w", s.path, err)
	}
	return nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// damaged puts the name of the file into an error.
func (s *Store) damaged(err error) error {
	var d *DamagedError
	if errors.As(err, &d) && d.Path == "" {
		return &DamagedError{Path: s.path, What: d.What}
	}
	return err
}

// change is one write transaction, which takes the record along.
type change struct {
	tx  *bbolt.Tx
	sum uint64
}

func (s *Store) update(fn func(c *change) error) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		conf := tx.Bucket(confBucket)
		r, err := decodeRecord(conf.Get(recordKey))
		if err == nil && r.tx+1 != uint64(tx.ID()) {
			err = damagedf("somebody else has written it: its sum is of transaction %d, this is %d", r.tx, tx.ID())
		}
		if err != nil {
			return err
		}
		c := &change{tx, r.sum}
		if err := fn(c); err != nil {
			return err
		}
		return conf.Put(recordKey, record{uint64(tx.ID()), c.sum}.encode())
	})
	return s.damaged(err)
}

// put writes one pair.
func (c *change) put(bucket, key, value []byte) error {
	b := c.tx.Bucket(bucket)
	if old := b.Get(key); old != nil {
		c.sum -= pairSum(bucket, key, old)
	}
	c.sum += pairSum(bucket, key, value)
	return b.Put(key, value)
}

// FirstIndex is the first index of the log; 0 when it is empty.
func (s *Store) FirstIndex() (uint64, error) {
	return s.end(func(c *bbolt.Cursor) []byte { k, _ := c.First(); return k })
}

// LastIndex is the last index of the log; 0 when it is empty.
func (s *Store) LastIndex() (uint64, error) {
	return s.end(func(c *bbolt.Cursor) []byte { k, _ := c.Last(); return k })
}

func (s *Store) end(find func(*bbolt.Cursor) []byte) (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		switch key := find(tx.Bucket(logsBucket).Cursor()); len(key) {
		case 0:
		case keySize:
			index = binary.BigEndian.Uint64(key)
		default:
			return damagedf("the key of an entry has %d bytes", len(key))
		}
		return nil
	})
	return index, s.damaged(err)
}

func logKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// GetLog reads one entry. One that is not what was written is a DamagedError.
func (s *Store) GetLog(index uint64, l *raft.Log) error {
	key := logKey(index)
	err := s.db.View(func(tx *bbolt.Tx) error {
		value := tx.Bucket(logsBucket).Get(key)
		if value == nil {
			return raft.ErrLogNotFound
		}
		// The decoder may keep parts of what it reads, and the page is the transaction's.
		return intact(key, append([]byte(nil), value...), l)
	})
	return s.damaged(err)
}

// StoreLog writes one entry.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries, all or none.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	return s.update(func(c *change) error {
		for _, l := range logs {
			key := logKey(l.Index)
			value, err := seal(key, l)
			if err != nil {
				return fmt.Errorf("encoding entry %d: %w", l.Index, err)
			}
			if err := c.put(logsBucket, key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteRange drops the entries from first to last.
func (s *Store) DeleteRange(first, last uint64) error {
	return s.update(func(c *change) error {
		cur := c.tx.Bucket(logsBucket).Cursor()
		for k, v := cur.Seek(logKey(first)); k != nil && binary.BigEndian.Uint64(k) <= last; k, v = cur.Next() {
			c.sum -= pairSum(logsBucket, k, v)
			if err := cur.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Set writes a value.
func (s *Store) Set(key, value []byte) error {
	size, known := confKeys[string(key)]
	if !known || size != 0 && len(value) != size || string(key) == string(recordKey) {
		return fmt.Errorf("writing Raft's log: no value %.40q of %d bytes belongs there", key, len(value))
	}
	err := s.update(func(c *change) error { return c.put(confBucket, key, value) })
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conf[string(key)] = append([]byte(nil), value...)
	}
	return err
}

// Get is the value that Open found intact, or Set wrote since.
func (s *Store) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.conf[string(key)]
	if !ok {
		return nil, ErrKeyNotFound
	}
	return append([]byte(nil), value...), nil
}

// SetUint64 writes a number.
func (s *Store) SetUint64(key []byte, value uint64) error { return s.Set(key, logKey(value)) }

// GetUint64 reads a number.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != keySize {
		return 0, &DamagedError{Path: s.path, What: fmt.Sprintf("%.40q is no number", key)}
	}
	return binary.BigEndian.Uint64(b), nil
}
