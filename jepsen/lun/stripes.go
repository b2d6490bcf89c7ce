package lun

import "sync"

// The locks of ranges: the file in stripes, dealt to a fixed number of locks.
const (
	stripeSize = 64 << 10
	stripeLock = 256
)

// stripes lets only those wait for each other that touch the same bytes, and a few unlucky others.
type stripes [stripeLock]sync.RWMutex

// each calls f for the locks of a range, always in the same order, so that two ranges cannot wait for each other.
func (s *stripes) each(off, n int64, f func(*sync.RWMutex)) {
	first, last := off/stripeSize, (off+max(n, 1)-1)/stripeSize
	if last-first >= stripeLock-1 {
		first, last = 0, stripeLock-1
	}
	a, b := int(first%stripeLock), int(last%stripeLock)
	if a <= b {
		for i := a; i <= b; i++ {
			f(&s[i])
		}
		return
	}
	for i := 0; i <= b; i++ { // the range goes around
		f(&s[i])
	}
	for i := a; i < stripeLock; i++ {
		f(&s[i])
	}
}

// own keeps everybody else out of a range until the function that it returns is called.
func (s *stripes) own(off, n int64) (release func()) {
	s.each(off, n, (*sync.RWMutex).Lock)
	return func() { s.each(off, n, (*sync.RWMutex).Unlock) }
}

// share keeps writers out of a range.
func (s *stripes) share(off, n int64) (release func()) {
	s.each(off, n, (*sync.RWMutex).RLock)
	return func() { s.each(off, n, (*sync.RWMutex).RUnlock) }
}
