package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

var (
	logsBucket = []byte("logs")
	confBucket = []byte("conf")
	recordKey  = []byte("holdfast.check")
)

// What Raft keeps in conf, with the size of the value; 0: any.
var confKeys = map[string]int{"CurrentTerm": 8, "LastVoteTerm": 8, "LastVoteCand": 0, string(recordKey): recordSize}

// Content is what a scan found.
type Content struct {
	// First and Last are the ends of the log, 0 when it is empty. Since is the first index of the last run without a gap.
	First, Last, Since uint64

	conf   map[string][]byte
	sum    uint64 // over all pairs but the record
	record record // zero: there is none
	txn    uint64
}

// fresh says whether the record is of the last transaction; otherwise an older program has written since, or always.
func (c *Content) fresh() bool { return c.record.tx == c.txn }

// Scan reads a file as its last transaction left it, page by page, and believes nothing in it. A file that is not there, or empty, has no
// content.
func Scan(path string) (*Content, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return &Content{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Raft's log: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading Raft's log: %w", err)
	}
	if fi.Size() == 0 {
		return &Content{}, nil
	}
	c := &Content{conf: map[string][]byte{}}
	if err := c.scan(f, fi.Size()); err != nil {
		var d *DamagedError
		if errors.As(err, &d) {
			return nil, &DamagedError{Path: path, What: d.What}
		}
		return nil, fmt.Errorf("reading Raft's log %s: %w", path, err)
	}
	return c, nil
}

func (c *Content) scan(r io.ReaderAt, size int64) error {
	p, err := openPages(r, size)
	if err != nil {
		return err
	}
	c.txn = p.meta.txn
	if err := p.freelist(); err != nil {
		return err
	}
	buckets := 0
	_, err = p.walk(p.meta.root, 0, func(e elem) error {
		buckets++
		switch {
		case e.bucket && string(e.key) == string(logsBucket):
			return p.bucket(e.value, c.addLog)
		case e.bucket && string(e.key) == string(confBucket):
			return p.bucket(e.value, c.addConf)
		}
		return damagedf("there is something named %.40q in it", e.key)
	})
	if err == nil && buckets != 2 && c.txn > 1 { // the first transaction after bbolt's own makes both
		err = damagedf("it should have two parts, and has %d", buckets)
	}
	if err != nil {
		return err
	}
	return c.judge()
}

// judge compares the content with its record.
func (c *Content) judge() error {
	switch {
	case c.record.tx > c.txn:
		return damagedf("its sum is of transaction %d, the last one is %d", c.record.tx, c.txn)
	case c.fresh() && c.record.sum != c.sum:
		return damagedf("its content is not what was written: %d entries up to %d, term and vote, have another sum", c.Last+1-c.First, c.Last)
	}
	return nil
}

func (c *Content) addLog(e elem) error {
	if err := intact(e.key, e.value, nil); err != nil {
		return err
	}
	index := binary.BigEndian.Uint64(e.key)
	if c.First == 0 {
		c.First = index
	}
	if c.Last == 0 || index != c.Last+1 {
		c.Since = index
	}
	c.Last = index
	c.sum += pairSum(logsBucket, e.key, e.value)
	return nil
}

func (c *Content) addConf(e elem) error {
	size, known := confKeys[string(e.key)]
	if !known || size != 0 && len(e.value) != size {
		return damagedf("beside term and vote it has %.40q with %d bytes", e.key, len(e.value))
	}
	if string(e.key) == string(recordKey) {
		r, err := decodeRecord(e.value)
		c.record = r
		return err
	}
	c.conf[string(e.key)] = append([]byte(nil), e.value...)
	c.sum += pairSum(confBucket, e.key, e.value)
	return nil
}
