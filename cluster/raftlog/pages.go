package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// Sizes and words of a bbolt file, version 2. Numbers are little-endian, as on every machine that we run on.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader = 16 // id 8, flags 2, count 2, overflow 4
	elemSize   = 16 // leaf: flags 4, pos 4, key 4, value 4; branch: pos 4, key 4, page 8
	metaSize   = 64
	rootSize   = 16 // what a bucket holds in its parent: page 8, sequence 8

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	bucketFlag   = 0x01

	noFreelist = 1<<64 - 1

	minPage, maxPage = 1 << 10, 1 << 16
	maxDepth         = 32
)

// meta is a meta page.
type meta struct {
	pageSize                 int64
	root, freelist, end, txn uint64
}

// pages reads the pages of a bbolt file that its last transaction can reach, each once.
type pages struct {
	r    io.ReaderAt
	size int64
	meta meta
	seen map[uint64]bool
}

// openPages reads both meta pages. bbolt would go on with one, which is the state before the last transaction: a vote could be forgotten.
// A crash cannot leave one torn, because a meta page's content lies within one sector.
func openPages(r io.ReaderAt, size int64) (*pages, error) {
	first, err := readMeta(r, 0)
	if err != nil {
		return nil, err
	}
	second, err := readMeta(r, first.pageSize)
	if err != nil {
		return nil, err
	}
	p := &pages{r: r, size: size, meta: first, seen: map[uint64]bool{}}
	if second.txn > first.txn {
		p.meta = second
	}
	if first.txn+second.txn != 2*p.meta.txn-1 || first.pageSize != second.pageSize {
		return nil, damagedf("its two meta pages are of transactions %d and %d", first.txn, second.txn)
	}
	if p.meta.end > uint64(size/p.meta.pageSize) {
		return nil, damagedf("it has %d bytes and should have %d pages of %d", size, p.meta.end, p.meta.pageSize)
	}
	return p, nil
}

func readMeta(r io.ReaderAt, at int64) (meta, error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := r.ReadAt(b, at); err != nil {
		return meta{}, notRead(err)
	}
	b = b[pageHeader:]
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	h := fnv.New64a()
	h.Write(b[:56])
	if u32(b) != boltMagic || u32(b[4:]) != boltVersion || u64(b[56:]) != h.Sum64() {
		return meta{}, damagedf("the meta page at byte %d is none", at)
	}
	m := meta{pageSize: int64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), end: u64(b[40:]), txn: u64(b[48:])}
	if m.pageSize < minPage || m.pageSize > maxPage || m.pageSize&(m.pageSize-1) != 0 {
		return meta{}, damagedf("its pages have %d bytes", m.pageSize)
	}
	return m, nil
}

// notRead tells a short file, which is damage, from a disk that cannot be read.
func notRead(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // ReaderAt gives these two as they are
		return damagedf("it is too short")
	}
	return fmt.Errorf("reading it: %w", err)
}

// page reads a page with all that overflows from it.
func (p *pages) page(id uint64) ([]byte, error) {
	head := make([]byte, pageHeader)
	if err := p.claim(id, 0); err != nil {
		return nil, err
	}
	if _, err := p.r.ReadAt(head, int64(id)*p.meta.pageSize); err != nil {
		return nil, notRead(err)
	}
	more := uint64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint64(head) != id || more >= p.meta.end {
		return nil, damagedf("page %d is another one, or too long", id)
	}
	for i := uint64(1); i <= more; i++ {
		if err := p.claim(id+i, id); err != nil {
			return nil, err
		}
	}
	b := make([]byte, int64(1+more)*p.meta.pageSize)
	if _, err := p.r.ReadAt(b, int64(id)*p.meta.pageSize); err != nil {
		return nil, notRead(err)
	}
	return b, nil
}

// claim notes that a page is in use, which it can be once.
func (p *pages) claim(id, of uint64) error {
	if id < 2 || id >= p.meta.end || p.seen[id] {
		return damagedf("page %d (of %d) is beyond the end, or used twice", id, of)
	}
	p.seen[id] = true
	return nil
}

// elem is one element of a page.
type elem struct {
	bucket     bool   // leaf: the value is a bucket
	child      uint64 // branch
	key, value []byte
}

// elems takes a page apart. Keys and values lie behind the elements in order, without a gap; so a number that is too small or too big
// does not fit the rest.
func elems(b []byte) (branch bool, out []elem, used int, err error) {
	u32 := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }
	flags, count := binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:]))
	branch = flags == flagBranch
	used = pageHeader + count*elemSize
	if flags != flagBranch && flags != flagLeaf || used > len(b) || branch && count == 0 {
		return branch, nil, 0, damagedf("a page says that it is of kind %#x with %d elements", flags, count)
	}
	out = make([]elem, count)
	for i := range out {
		at := pageHeader + i*elemSize
		pos, keyLen, valueLen := u32(at+4), u32(at+8), u32(at+12)
		if branch {
			pos, keyLen, valueLen = u32(at), u32(at+4), 0
			out[i].child = binary.LittleEndian.Uint64(b[at+8:])
		} else if f := u32(at); f > bucketFlag {
			return branch, nil, 0, damagedf("an element is of kind %#x", f)
		} else {
			out[i].bucket = f == bucketFlag
		}
		if uint64(at)+pos != uint64(used) || keyLen == 0 || uint64(used)+keyLen+valueLen > uint64(len(b)) {
			return branch, nil, 0, damagedf("an element has %d and %d bytes at %d", keyLen, valueLen, pos)
		}
		out[i].key = b[used : used+int(keyLen)]
		used += int(keyLen)
		out[i].value = b[used : used+int(valueLen)]
		used += int(valueLen)
		if i > 0 && bytes.Compare(out[i-1].key, out[i].key) >= 0 {
			return branch, nil, 0, damagedf("the keys of a page are not in order")
		}
	}
	return branch, out, used, nil
}

// walk calls fn for the pairs below a page, in order, and returns the first key.
func (p *pages) walk(id uint64, depth int, fn func(elem) error) ([]byte, error) {
	if depth > maxDepth {
		return nil, damagedf("its tree is deeper than %d", maxDepth)
	}
	b, err := p.page(id)
	if err != nil {
		return nil, err
	}
	branch, list, used, err := elems(b)
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if int64(used) <= int64(len(b))-p.meta.pageSize {
		return nil, damagedf("page %d uses %d bytes of %d", id, used, len(b))
	}
	for _, e := range list {
		if !branch {
			err = fn(e)
		} else if first, werr := p.walk(e.child, depth+1, fn); werr != nil || !bytes.Equal(first, e.key) {
			err = werr
			if err == nil {
				err = damagedf("page %d does not begin where page %d says", e.child, id)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list[0].key, nil
}

// bucket calls fn for the pairs of a bucket, given what its parent holds.
func (p *pages) bucket(held []byte, fn func(elem) error) error {
	if len(held) < rootSize {
		return damagedf("a bucket has %d bytes", len(held))
	}
	plain := func(e elem) error {
		if e.bucket {
			return damagedf("there is a bucket inside a bucket")
		}
		return fn(e)
	}
	if root := binary.LittleEndian.Uint64(held); root != 0 {
		if len(held) != rootSize {
			return damagedf("a bucket with pages of its own has %d bytes", len(held))
		}
		_, err := p.walk(root, 0, plain)
		return err
	}
	if len(held) < rootSize+pageHeader {
		return damagedf("a small bucket has %d bytes", len(held))
	}
	in := held[rootSize:]
	branch, list, used, err := elems(in)
	if err != nil || branch || used != len(in) {
		return damagedf("a small bucket does not fit its place: %v", err)
	}
	for _, e := range list {
		if err := plain(e); err != nil {
			return err
		}
	}
	return nil
}

// freelist checks the list of free pages, if the file has one. Ours never do after their first transaction.
func (p *pages) freelist() error {
	if p.meta.freelist == noFreelist {
		return nil
	}
	b, err := p.page(p.meta.freelist)
	if err != nil {
		return err
	}
	count := int(binary.LittleEndian.Uint16(b[10:]))
	if binary.LittleEndian.Uint16(b[8:]) != flagFreelist || pageHeader+8*count > len(b) || count == 0xffff {
		return damagedf("its list of free pages is none")
	}
	for i := range count {
		if err := p.claim(binary.LittleEndian.Uint64(b[pageHeader+8*i:]), p.meta.freelist); err != nil {
			return err
		}
	}
	return nil
}
