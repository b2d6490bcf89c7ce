package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	// pageSize is the unit that knows where it belongs.
	pageSize = 4096
	// blockSize is what is written at once.
	blockSize = 1 << 20
	// step is a word's difference to the one before. Odd, so that the words of a page are all different.
	step = 0x9e3779b97f4a7c15
)

// mix spreads a number over all its bits (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fill makes the block number n in its generation: in each page the page's number, the generation, and words that follow from
// both and the seed. So what is lost, old, torn, or in the wrong place is told from what is right.
func fill(p []byte, seed, n, generation uint64) {
	for at := 0; at < len(p); at += pageSize {
		page := p[at : at+pageSize]
		number := n*(blockSize/pageSize) + uint64(at/pageSize)
		binary.LittleEndian.PutUint64(page, number)
		binary.LittleEndian.PutUint64(page[8:], generation)
		word := mix(seed ^ mix(number^mix(generation)))
		for i := 16; i < pageSize; i += 8 {
			word += step
			binary.LittleEndian.PutUint64(page[i:], word)
		}
	}
}

// check says in what the block number n differs from what fill makes of it. It makes no second block to compare with: in a guest whose
// processor is emulated each instruction counts.
func check(got []byte, seed, n, generation uint64) error {
	for at := 0; at < len(got); at += pageSize {
		page := got[at : at+pageSize]
		number := n*(blockSize/pageSize) + uint64(at/pageSize)
		wrong := binary.LittleEndian.Uint64(page) ^ number | binary.LittleEndian.Uint64(page[8:]) ^ generation
		word := mix(seed ^ mix(number^mix(generation)))
		for i := 16; i < pageSize; i += 8 {
			word += step
			wrong |= binary.LittleEndian.Uint64(page[i:]) ^ word
		}
		if wrong != 0 {
			return fmt.Errorf("block %d, byte %d of it: page %d of generation %d was written, there is %s", n, at, number, generation, describe(page))
		}
	}
	return nil
}

// describe says what a page looks like.
func describe(page []byte) string {
	if bytes.Count(page, []byte{0}) == len(page) {
		return "nothing but zeroes"
	}
	return fmt.Sprintf("what calls itself page %d of generation %d", binary.LittleEndian.Uint64(page), binary.LittleEndian.Uint64(page[8:]))
}

// rewritten chooses the blocks that are written a second time: one of eight.
func rewritten(seed, n uint64) bool { return mix(seed^n)%8 == 0 }

// finally is the generation that a block has in the end.
func finally(seed, n uint64) uint64 {
	if rewritten(seed, n) {
		return 2
	}
	return 1
}
