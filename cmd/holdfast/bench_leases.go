package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// benchLockspace and benchResource are the names on the lease files.
const (
	benchLockspace = "BENCH"
	benchResource  = "bench-resource"
)

// leases times acquire and release of a free lease: a keeper of ours through its client, and the sanlock daemon
// through its library, each with a file of its own on the same file system.
func (b *bench) leases(ctx context.Context) error {
	ours, err := b.ourLeases(ctx)
	if err != nil {
		return err
	}
	theirs, err := b.sanlockLeases(ctx)
	if errors.Is(err, errNoJudge) {
		b.report.leftOut("acquire and release by sanlock", err)
		err = nil
	}
	b.report.leases(ours, theirs)
	return err
}

// ourLeases makes a lockspace and a resource in one file and takes the resource again and again.
func (b *bench) ourLeases(ctx context.Context) (samples, error) {
	dir := filepath.Join(b.o.dir, "keeper")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the keeper's directory: %w", err)
	}
	file := filepath.Join(dir, "leases.img")
	if err := initLeaseFile(ctx, file); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	k, err := keeper.Start(ctx, keeper.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer k.Close(ctx)
	_, err = k.Join(ctx, keeper.LockspaceSpec{Name: benchLockspace, Device: file, Geometry: leases.Geometry512,
		HostID: 1, HostName: "bench", Profile: leases.Fast})
	if err != nil {
		return nil, err
	}
	res := keeper.ResourceSpec{Lockspace: benchLockspace, Name: benchResource, Device: file, Offset: leases.Geometry512.AlignSize}
	return sample(b.o.count, func() error {
		if _, err := k.Acquire(ctx, res); err != nil {
			return err
		}
		return k.Release(ctx, res)
	})
}

func initLeaseFile(ctx context.Context, file string) error {
	if _, err := makeLUN(file, 8<<20); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dev, err := blockdev.Open(ctx, file, blockdev.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	g := leases.Geometry512
	err = leases.InitLockspace(ctx, dev, 0, g, benchLockspace, leases.Fast.IOTimeout)
	if err != nil {
		return err
	}
	return leases.InitResource(ctx, dev, g.AlignSize, g, benchLockspace, benchResource, 0)
}

// shimSource lets the daemon start where it may not raise its limits, as in containers. It changes nothing else.
const shimSource = `#include <sys/resource.h>
int setrlimit(__rlimit_resource_t r, const struct rlimit *l) { (void)r; (void)l; return 0; }
int mlockall(int flags) { (void)flags; return 0; }
`

// peerSource takes and releases a lease through sanlock's library and prints the microseconds of each round. It finds
// the library at run time, so that no development package is needed.
const peerSource = `#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double us(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}
int main(int argc, char **argv) {
	void *lib = argc == 3 ? dlopen("libsanlock.so.1", RTLD_NOW) : 0, *res;
	if (!lib) return 2;
	int (*reg)(void) = dlsym(lib, "sanlock_register");
	int (*parse)(char *, void **) = dlsym(lib, "sanlock_str_to_res");
	int (*acquire)(int, int, uint32_t, int, void **, void *) = dlsym(lib, "sanlock_acquire");
	int (*release)(int, int, uint32_t, int, void **) = dlsym(lib, "sanlock_release");
	if (!reg || !parse || !acquire || !release || parse(argv[1], &res) < 0) return 3;
	int sock = reg();
	if (sock < 0) return 4;
	for (int n = atoi(argv[2]); n > 0; n--) {
		double start = us();
		if (acquire(sock, -1, 0, 1, &res, 0) < 0) return 5;
		if (release(sock, -1, 0, 1, &res) < 0) return 6;
		printf("%.1f\n", us() - start);
	}
	return 0;
}
`

// sanlockPeer is a running sanlock daemon with a lockspace and a resource.
type sanlockPeer struct {
	dir    string
	env    []string
	daemon *exec.Cmd
	log    *os.File
}

// sanlockLeases runs the daemon, takes the lease, and stops the daemon.
func (b *bench) sanlockLeases(ctx context.Context) (t samples, err error) {
	for _, name := range []string{"sanlock", "gcc"} {
		if _, err := toolPath(name); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	p, err := startSanlock(ctx, filepath.Join(b.o.dir, "sanlock"))
	if err != nil {
		return nil, fmt.Errorf("starting the sanlock daemon: %w", err)
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	out, err := p.run(ctx, filepath.Join(p.dir, "peer"), fmt.Sprintf("%s:%s:%s:0", benchLockspace, benchResource, p.path("leases")),
		fmt.Sprint(b.o.count))
	if err != nil {
		return nil, err
	}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		var us float64
		if _, err := fmt.Sscan(s.Text(), &us); err != nil {
			return nil, fmt.Errorf("reading the peer's times: %w", err)
		}
		t = append(t, time.Duration(us*float64(time.Microsecond)))
	}
	return t, nil
}

// startSanlock compiles the two helpers, makes the lease files and brings the daemon up with a joined lockspace.
func startSanlock(ctx context.Context, dir string) (*sanlockPeer, error) {
	p := &sanlockPeer{dir: dir, env: append(os.Environ(), "SANLOCK_RUN_DIR="+filepath.Join(dir, "run"), "SANLOCK_PRIVILEGED=0")}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	var err error
	if p.log, err = os.Create(p.path("daemon.log")); err != nil {
		return nil, err
	}
	sanlock, err := toolPath("sanlock")
	if err != nil {
		return nil, err
	}
	p.daemon = exec.Command(sanlock, "daemon", "-D", "-w", "0", "-l", "0", "-h", "0", "-U", "root", "-G", "root", "-e", "bench")
	p.daemon.Env = append(p.env, "LD_PRELOAD="+p.path("shim.so"))
	p.daemon.Stdout, p.daemon.Stderr = p.log, p.log
	if err := p.daemon.Start(); err != nil {
		return nil, err
	}
	err = poll(ctx, "the daemon takes the lockspace", func() error {
		_, err := p.sanlock(ctx, "client", "add_lockspace", "-s", p.lockspace(1), "-o", "2")
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *sanlockPeer) path(name string) string { return filepath.Join(p.dir, name) }

func (p *sanlockPeer) lockspace(hostID int) string {
	return fmt.Sprintf("%s:%d:%s:0", benchLockspace, hostID, p.path("ids"))
}

// prepare compiles and initialises.
func (p *sanlockPeer) prepare(ctx context.Context) error {
	if err := os.MkdirAll(p.path("run"), 0o755); err != nil {
		return err
	}
	for name, source := range map[string]string{"shim.c": shimSource, "peer.c": peerSource} {
		if err := os.WriteFile(p.path(name), []byte(source), 0o600); err != nil {
			return err
		}
	}
	for _, name := range []string{"ids", "leases"} {
		if _, err := makeLUN(p.path(name), 8<<20); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"gcc", "-shared", "-fPIC", "-O1", "-o", p.path("shim.so"), p.path("shim.c")},
		{"gcc", "-O1", "-o", p.path("peer"), p.path("peer.c"), "-ldl"},
		{"sanlock", "direct", "init", "-s", p.lockspace(0), "-o", "2"},
		{"sanlock", "direct", "init", "-r", fmt.Sprintf("%s:%s:%s:0", benchLockspace, benchResource, p.path("leases"))},
	} {
		path, err := toolPath(args[0])
		if err != nil {
			return err
		}
		if _, err := p.run(ctx, path, args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// stop gives the lockspace up and ends the daemon; one that does not end is killed.
func (p *sanlockPeer) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := p.sanlock(ctx, "client", "rem_lockspace", "-s", p.lockspace(1))
	_, err2 := p.sanlock(ctx, "client", "shutdown", "-f", "1")
	kill := time.AfterFunc(10*time.Second, func() { _ = p.daemon.Process.Kill() })
	defer kill.Stop()
	_ = p.daemon.Wait() // a killed daemon is as good as one that ended
	return errors.Join(err, err2, p.log.Close())
}

func (p *sanlockPeer) sanlock(ctx context.Context, args ...string) ([]byte, error) {
	path, err := toolPath("sanlock")
	if err != nil {
		return nil, err
	}
	return p.run(ctx, path, args...)
}

func (p *sanlockPeer) run(ctx context.Context, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = p.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
