package keeper

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFD_travel: each frame gets the descriptors that were sent with it, in order, and what nobody asked for is closed.
func TestFD_travel(t *testing.T) {
	t.Parallel()
	a, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var conn net.Conn
	conn, err = net.FileConn(theirs)
	_ = theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := &fdReader{conn: conn}
	defer in.close()
	var inodes []uint64
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		inodes = append(inodes, inode(t, r), inode(t, w))
		// The second frame brings descriptors that it does not announce.
		if err := writeFrame(&fdWriter{a, []*os.File{r, w}}, &request{ID: uint64(i), FDs: 2 * (1 - i%2)}); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	for range 3 {
		var req request
		if err := readFrame(in, &req); err != nil {
			t.Fatal(err)
		}
		files, err := in.take(req.FDs)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			got = append(got, inode(t, f))
			_ = f.Close()
		}
	}
	if len(got) != 4 || got[0] != inodes[0] || got[1] != inodes[1] || got[2] != inodes[2] || got[3] != inodes[3] {
		t.Errorf("got inodes %v of %v", got, inodes)
	}
	if _, err := in.take(3); !errors.Is(err, errFrame) {
		t.Errorf("more than came: %v", err)
	}
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
