package main

import (
	"fmt"
	"io"
	"time"
)

// disk is what is written and read.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// scribe fills a disk and reads it back.
type scribe struct {
	disk    disk
	out     io.Writer // what is done, a line for each stretch
	seed    uint64
	blocks  uint64 // of blockSize
	stretch uint64 // blocks between two lines
	rate    int64  // bytes per second; 0: as fast as it goes
	buf     []byte // of one block, aligned for direct I/O

	begun   time.Time
	wrote   int64
	slowest time.Duration
}

// writeAll writes all blocks; after each stretch some of its blocks once more, and what was written is flushed and read back.
func (s *scribe) writeAll() error {
	s.begun = time.Now()
	for from := uint64(0); from < s.blocks; from += s.stretch {
		to := min(from+s.stretch, s.blocks)
		if err := s.writeStretch(from, to); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "scribe: wrote %d of %d MiB, slowest write %v\n", to, s.blocks, s.slowest.Round(time.Millisecond))
	}
	return nil
}

func (s *scribe) writeStretch(from, to uint64) error {
	for n := from; n < to; n++ {
		if err := s.write(n, 1); err != nil {
			return err
		}
	}
	for n := from; n < to; n++ {
		if !rewritten(s.seed, n) {
			continue
		}
		if err := s.write(n, 2); err != nil {
			return err
		}
	}
	if err := s.disk.Sync(); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	return s.verify(from, to)
}

// write writes one block, no sooner than the rate allows.
func (s *scribe) write(n, generation uint64) error {
	fill(s.buf, s.seed, n, generation)
	if s.rate > 0 {
		due := s.begun.Add(time.Duration(float64(s.wrote) / float64(s.rate) * float64(time.Second)))
		time.Sleep(time.Until(due))
	}
	begin := time.Now()
	if _, err := s.disk.WriteAt(s.buf, int64(n)*blockSize); err != nil {
		return fmt.Errorf("writing block %d: %w", n, err)
	}
	s.slowest = max(s.slowest, time.Since(begin))
	s.wrote += blockSize
	return nil
}

// verifyAll reads everything back.
func (s *scribe) verifyAll() error {
	if err := s.verify(0, s.blocks); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "scribe: verified %d MiB\n", s.blocks)
	return nil
}

func (s *scribe) verify(from, to uint64) error {
	for n := from; n < to; n++ {
		if _, err := s.disk.ReadAt(s.buf, int64(n)*blockSize); err != nil {
			return fmt.Errorf("reading block %d: %w", n, err)
		}
		if err := check(s.buf, s.seed, n, finally(s.seed, n)); err != nil {
			return err
		}
	}
	return nil
}
