// Package clockseam is the file that makes the clocks of a host wrong. The harness writes it, a test build of the program maps it
// (see package clock); the normal program does not link this package.
//
// All words are little-endian and 64 bits long:
//
//	 0  offset as last set, nanoseconds   } for people; nobody computes with them
//	 8  drift as last set, parts in a million
//	16  number n of the line in force
//	24  64 lines of {base, value, ppm}, line n at n mod 64
//
// A clock that shows base shall show value there, and from there on run ppm parts in a million too fast. So all processes of a
// host read the same, when they were started does not matter, and neither does how often the file was changed meanwhile. A file
// of zeros, or an empty one, is a clock that is right.
//
// CLOCK_BOOTTIME has no steps: it goes on by what a suspend took, and never back. So an offset that grows moves it forward, once;
// one that shrinks, or is below zero, is a step of the wall clock alone and leaves it where it is.
package clockseam

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Env names the file in the environment of agent and keeper.
const Env = "HOLDFAST_CLOCK_SEAM"

// Words of the file, and its size.
const (
	wordOffset = 0
	wordPPM    = 1
	wordLine   = 2
	wordLines  = 3
	lines      = 64
	lineWords  = 3

	// Size is the file's in bytes.
	Size = 8 * (wordLines + lines*lineWords)
)

// maxPPM bounds the drift: a clock that is wrong by more than a tenth is broken, and everybody would see it.
const maxPPM = 100_000

// words are the mapped file. Words, not bytes: each is read and written as a whole.
type words [Size / 8]atomic.Int64

// line is where a clock was, and how it runs from there on.
type line struct{ base, value, ppm int64 }

// at is what the clock shows when the machine's own shows boot.
func (l line) at(boot time.Duration) time.Duration {
	since := int64(boot) - l.base
	return time.Duration(l.value + since + since/1_000_000*l.ppm + since%1_000_000*l.ppm/1_000_000)
}

// Seam is a mapped file. It stays mapped until the process ends.
type Seam struct{ w *words }

// Open maps the file that a harness made.
func Open(path string) (*Seam, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the clock's seam: %w", err)
	}
	defer f.Close()
	b, err := mapped(f, unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	return &Seam{(*words)(unsafe.Pointer(&b[0]))}, nil
}

// Skew is what the host's clock shows when the machine's own shows boot. It takes no lock and allocates nothing.
func (s *Seam) Skew(boot time.Duration) time.Duration {
	for {
		n := s.w[wordLine].Load()
		l := s.w.line(n)
		if s.w[wordLine].Load() == n { // a line is written again 64 changes later only
			return l.at(boot)
		}
	}
}

// Set changes offset and drift from boot on, a reading of the machine's own CLOCK_BOOTTIME. The file is made when it is missing.
func Set(path string, boot, offset time.Duration, ppm int64) error {
	if ppm < -maxPPM || ppm > maxPPM {
		return fmt.Errorf("a drift of %d ppm is beyond %d", ppm, maxPPM)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("setting a clock: %w", err)
	}
	defer f.Close()
	if err := grow(f); err != nil {
		return fmt.Errorf("setting a clock: %w", err)
	}
	b, err := mapped(f, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return err
	}
	(*words)(unsafe.Pointer(&b[0])).set(boot, offset, ppm)
	return unix.Munmap(b)
}

// grow makes a new file as long as it has to be, alone; the lock goes with the file.
func grow(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() < Size {
		err = f.Truncate(Size)
	}
	return err
}

// set writes the next line, then its number.
func (w *words) set(boot, offset time.Duration, ppm int64) {
	n := w[wordLine].Load()
	value := w.line(n).at(boot)
	if step := max(offset, 0) - max(time.Duration(w[wordOffset].Load()), 0); step > 0 {
		value += step
	}
	i := at(n + 1)
	w[i].Store(int64(boot))
	w[i+1].Store(int64(value))
	w[i+2].Store(ppm)
	w[wordOffset].Store(int64(offset))
	w[wordPPM].Store(ppm)
	w[wordLine].Store(n + 1)
}

// at is the first word of a line, whatever number a damaged file gives.
func at(n int64) int { return wordLines + lineWords*int(uint64(n)%lines) }

func (w *words) line(n int64) line {
	i := at(n)
	return line{w[i].Load(), w[i+1].Load(), w[i+2].Load()}
}

// mapped maps a file that is long enough; reading beyond the end of a shorter one would be a SIGBUS.
func mapped(f *os.File, prot int) ([]byte, error) {
	fi, err := f.Stat()
	if err == nil && fi.Size() < Size {
		err = errors.New("too short; only the harness makes it")
	}
	var b []byte
	if err == nil {
		b, err = unix.Mmap(int(f.Fd()), 0, Size, prot, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, fmt.Errorf("mapping the clock's seam %s: %w", f.Name(), err)
	}
	return b, nil
}
