// Command scribe is put into a guest: it writes a disk with blocks that know their place and their generation, reads them back past
// the guest's cache, and ends with 1 when one of them is not what was written last. What it writes follows from the
// seed, so that a second guest can look at what the first one wrote.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	path := flag.String("disk", "/dev/vda", "the disk; all of it is overwritten")
	size := flag.Uint64("mib", 1024, "how much of it to use")
	seed := flag.Uint64("seed", 1, "what the contents follow from")
	rate := flag.Int64("rate", 0, "MiB per second to write at most; 0: as fast as it goes")
	only := flag.Bool("verify", false, "write nothing, and look at what was written with the same seed")
	flag.Parse()
	if err := run(*path, *size, *seed, *rate, *only); err != nil {
		fmt.Printf("scribe: FAILED: %v\n", err)
		os.Exit(1)
	}
}

func run(path string, size, seed uint64, rate int64, only bool) (err error) {
	// O_DIRECT: what is read back comes from the disk and not from memory.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("memory for a block: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(buf)) }()
	s := &scribe{disk: f, out: os.Stdout, seed: seed, blocks: size, stretch: stretchBlocks, rate: rate << 20, buf: buf}
	if !only {
		if err := s.writeAll(); err != nil {
			return err
		}
	}
	return s.verifyAll()
}

// stretchBlocks are as many blocks as a small extension has.
const stretchBlocks = 64
