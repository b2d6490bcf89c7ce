package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

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

// resource is the specification of resource i.
func (p *sanlockPeer) resource(i int) string {
	return fmt.Sprintf("%s:%s%d:%s:%d", benchLockspace, benchResource, i, p.path("leases"), leaseArea(1+i))
}

// rounds takes a resource n times and gives it back.
func (p *sanlockPeer) rounds(ctx context.Context, resource string, n int) (t samples, err error) {
	out, err := p.run(ctx, p.path("peer"), resource, fmt.Sprint(n))
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
// The daemon is started through the given command, if any.
func startSanlock(ctx context.Context, dir string, through ...string) (*sanlockPeer, error) {
	for _, name := range []string{"sanlock", "gcc"} {
		if _, err := toolPath(name); err != nil {
			return nil, err
		}
	}
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
	command := append(through, sanlock, "daemon", "-D", "-w", "0", "-l", "0", "-h", "0", "-U", "root", "-G", "root", "-e", "bench")
	p.daemon = exec.Command(command[0], command[1:]...)
	p.daemon.Env = append(p.env, "LD_PRELOAD="+p.path("shim.so"))
	p.daemon.Stdout, p.daemon.Stderr = p.log, p.log
	if err := p.daemon.Start(); err != nil {
		return nil, err
	}
	err = poll(ctx, "the daemon takes the lockspace", func() error {
		_, err := p.sanlock(ctx, "client", "add_lockspace", "-s", p.lockspace(1), "-o", "1")
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
	steps := [][]string{
		{"gcc", "-shared", "-fPIC", "-O1", "-o", p.path("shim.so"), p.path("shim.c")},
		{"gcc", "-O1", "-o", p.path("peer"), p.path("peer.c"), "-ldl"},
		{"sanlock", "direct", "init", "-s", p.lockspace(0), "-o", "1"},
	}
	for i, hosts := range leaseSizes {
		steps = append(steps, []string{"sanlock", "direct", "init", "-r", p.resource(i), "-n", fmt.Sprint(hosts)})
	}
	for _, args := range steps {
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
