package pool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// writeSynced writes a file as a careful program does.
func writeSynced(path, text string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func TestDisk_fullAndFree(t *testing.T) {
	t.Parallel()
	p := bare(t, 2)
	must(t, p.FillDisk("h1"))
	if err := writeSynced(filepath.Join(p.DataDir("h1"), "x"), strings.Repeat("x", 1<<16)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing to a full disk: %v", err)
	}
	must(t, writeSynced(filepath.Join(p.DataDir("h2"), "x"), strings.Repeat("x", 1<<16)))
	must(t, p.FreeDisk("h1"))
	must(t, writeSynced(filepath.Join(p.DataDir("h1"), "x"), strings.Repeat("x", 1<<16)))
	must(t, p.FreeDisk("h1"))
}

// The power goes before it is flushed that a full disk was freed: it is free all the same when the power is back.
func TestDisk_freedBeforePowerOff(t *testing.T) {
	t.Parallel()
	p := bare(t, 1)
	must(t, p.FillDisk("h1"))
	h, _ := p.host("h1")
	unix.Sync() // the ballast is there for good
	must(t, p.FreeDisk("h1"))
	must(t, p.PowerOff("h1"))
	must(t, h.gain())
	must(t, writeSynced(filepath.Join(p.DataDir("h1"), "x"), strings.Repeat("x", 1<<16)))
}

// A frozen disk holds its writers until it is thawed; another host's goes on.
func TestDisk_frozenAndThawed(t *testing.T) {
	t.Parallel()
	p := bare(t, 2)
	must(t, p.FreezeDisk("h1"))
	must(t, p.FreezeDisk("h1"))
	wrote := make(chan error, 1)
	go func() { wrote <- writeSynced(filepath.Join(p.DataDir("h1"), "x"), "x") }()
	must(t, writeSynced(filepath.Join(p.DataDir("h2"), "x"), "x"))
	if err := unix.Access(p.DataDir("h1"), unix.R_OK); err != nil {
		t.Errorf("reading a frozen disk: %v", err)
	}
	select {
	case err := <-wrote:
		t.Errorf("the frozen disk was written to: %v", err)
	default:
	}
	if p.FillDisk("h1") == nil {
		t.Error("a frozen disk was filled")
	}
	must(t, p.ThawDisk("h1"))
	must(t, <-wrote)
	must(t, p.ThawDisk("h1"))
}

// The power cut keeps what was flushed and loses what was not.
func TestPowerOff_losesWhatWasNotFlushed(t *testing.T) {
	t.Parallel()
	p := bare(t, 1)
	kept, lost := filepath.Join(p.DataDir("h1"), "kept"), filepath.Join(p.DataDir("h1"), "lost")
	must(t, writeSynced(kept, "x"))
	must(t, os.WriteFile(lost, []byte("x"), 0o600))
	must(t, p.PowerOff("h1"))
	must(t, p.PowerOff("h1"))
	if err := p.FillDisk("h1"); !errors.Is(err, errUnmounted) {
		t.Errorf("filling a disk without power: %v", err)
	}
	h, _ := p.host("h1")
	must(t, h.gain())
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what was flushed is lost: %v", err)
	}
	if _, err := os.Stat(lost); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was not flushed is there: %v", err)
	}
}

// The power can be cut while the disk hangs, and the pool can be closed.
func TestPowerOff_frozenDisk(t *testing.T) {
	t.Parallel()
	p := bare(t, 2)
	must(t, p.FreezeDisk("h1"))
	must(t, p.FreezeDisk("h2"))
	wrote := make(chan error, 1)
	go func() { wrote <- writeSynced(filepath.Join(p.DataDir("h1"), "x"), "x") }()
	must(t, p.PowerOff("h1"))
	if err := <-wrote; err == nil {
		// It may have waited for the file to be made only after the power was back; what counts is that it does not wait for ever.
		t.Log("the writer came late")
	}
}

// frozenEnv makes this test's program a harness that freezes a disk and waits for its end.
const frozenEnv = "HOLDFAST_JEPSEN_TEST_FROZEN"

func freezeAndWait() {
	p, err := Open(Config{Dir: os.Getenv(frozenEnv), Binary: os.Args[0], Hosts: 2, Serve: noServer})
	if err == nil {
		err = p.FreezeDisk("h1")
	}
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("frozen", p.Tag(), p.DataDir("h1"))
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
}

// A harness that is killed leaves no frozen disk, and Sweep removes the rest.
func TestThaw_harnessKilled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), frozenEnv+"="+shortDir(t))
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) != 3 || words[0] != "frozen" {
		t.Fatalf("the harness said %q, %v", line, err)
	}
	tag, data := words[1], words[2]
	t.Cleanup(func() { _ = Sweep(tag) })
	wrote := make(chan error, 1)
	go func() { wrote <- writeSynced(filepath.Join(data, "x"), "x") }()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	must(t, <-wrote)
	if len(leftovers(t, tag)) == 0 {
		t.Error("the killed harness left nothing behind; the test shows nothing")
	}
	swept, err := SweepDead()
	if err != nil || !slices.Contains(swept, tag) {
		t.Errorf("swept %v, %v; want %s among them", swept, err, tag)
	}
	nothingLeft(t, tag)
	must(t, Sweep(tag))
}

func TestSweep_oddTag(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{"", "a-b", "../x", "a*"} {
		if Sweep(tag) == nil {
			t.Errorf("%q is swept", tag)
		}
	}
}

func TestFlip_bySeed(t *testing.T) {
	t.Parallel()
	file := func(seed uint64) []byte {
		b := make([]byte, 20*piece)
		for i := range 5 * piece {
			b[i] = byte(i) | 1
		}
		flip(b, rand.New(rand.NewPCG(seed, 0)))
		return b
	}
	if !slices.Equal(file(1), file(1)) || slices.Equal(file(1), file(2)) {
		t.Error("the seed does not decide")
	}
	if changed := countDifferent(file(1)); changed != 5 {
		t.Errorf("%d bytes differ, want one in each piece that holds something", changed)
	}
}

func countDifferent(b []byte) (n int) {
	for i := range b {
		if i < 5*piece && b[i] != byte(i)|1 || i >= 5*piece && b[i] != 0 {
			n++
		}
	}
	return n
}

func TestPanicText_fromHereOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	const before = "panic: old\nlevel=INFO msg=\"panic: quoted\"\n"
	must(t, os.WriteFile(path, []byte(before+"level=INFO\npanic: new\n\ngoroutine 1 [running]:\n"), 0o600))
	if got, want := panicText(path, int64(len(before))), "panic: new\n\ngoroutine 1 [running]:\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := panicText(path, int64(len(before)+11)+100); got != "" {
		t.Errorf("got %q behind the end", got)
	}
}
