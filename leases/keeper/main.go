package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/leases/watchdog"
)

// Descriptors and environment that the agent hands over.
const (
	fdPage = 3 + iota
	fdConn
	fdAgent
)

const (
	envDir      = "HOLDFAST_KEEPER_DIR"
	envWait     = "HOLDFAST_KEEPER_LOCK_WAIT"
	envWatchdog = "HOLDFAST_KEEPER_WATCHDOG"

	lockName     = "keeper.lock"
	lockWait     = time.Minute // when the configuration names no other time
	lockRetry    = 10 * time.Millisecond
	yieldPoll    = 20 * time.Millisecond
	memoryLimit  = 14 << 20
	mclOnFault   = 4               // MCL_ONFAULT
	endTimeLimit = 5 * time.Minute // for what is written at the end
)

// Main is `holdfast keeper`: it serves the agent that started it and returns when everything is released, or when it
// was told that nothing can be (lost lockspaces are not written to). Options the agent set come in the environment. cut is for
// Holder.Devices; nil: holders that name some are refused.
func Main(ctx context.Context, log *slog.Logger, cut Cut) error {
	return run(ctx, log, blockdev.Open, cut)
}

// run is Main with its own way of opening devices.
func run(ctx context.Context, log *slog.Logger, open Opener, cut Cut) error {
	// A write to a log whose reader is gone must not be the end of the keeper, and a blocked one not of a renewal.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	h, stopLog := newAsyncLog(log.Handler())
	defer stopLog()
	log = slog.New(h)
	tune(log)
	dir := os.Getenv(envDir)
	if dir == "" {
		return errors.New("keeper: it is started by `holdfast agent`, not by hand")
	}
	dog, err := newWatchdog(log)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	p, pageFile, conn, err := inherit()
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer conn.Close()
	defer pageFile.Close()
	agent, err := watchProcess(fdAgent)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer agent.close()
	lock, err := lockDir(ctx, dir, agent.gone)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer lock.Close()
	s := newServer(log, p, open, conn)
	s.dog, s.cut = dog, cut
	if s.door, err = openDoor(dir, pageFile, log); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer s.door.close()
	s.agentFD.Store(fdAgent)
	var once sync.Once
	s.killAgent = func() {
		once.Do(func() { s.log.Error("the agent does not say that its I/O is back, ending it") })
		_ = unix.PidfdSendSignal(int(s.agentFD.Load()), unix.SIGKILL, nil, 0) // it may be gone already
	}
	return errors.Join(s.run(ctx, agent.gone), dog.Close())
}

// newWatchdog is the one that the configuration names.
func newWatchdog(log *slog.Logger) (*watchdog.Watchdog, error) {
	spec := watchdog.Spec{Kind: watchdog.None}
	if text := os.Getenv(envWatchdog); text != "" {
		var err error
		if spec, err = watchdog.ParseSpec(text); err != nil {
			return nil, err
		}
	}
	return watchdog.New(watchdog.Config{Spec: spec, Log: log}), nil
}

// tune keeps the process small and its memory resident. One processor is enough for a process that mostly waits for
// I/O, and waking a goroutine on the same one costs a third of waking another processor for it: an acquire has some
// thirty of these.
func tune(log *slog.Logger) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(memoryLimit)
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | mclOnFault); err != nil {
		log.Warn("memory is not locked: under memory pressure renewals may come late", "error", err)
	}
}

// inherit takes over page and socket.
func inherit() (*page, *os.File, net.Conn, error) {
	for fd := fdPage; fd <= fdAgent; fd++ {
		unix.CloseOnExec(fd)
	}
	f := os.NewFile(fdPage, "page")
	p, err := mapPage(f, true)
	if err != nil {
		return nil, nil, nil, err
	}
	sock := os.NewFile(fdConn, "agent")
	defer sock.Close()
	conn, err := net.FileConn(sock)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("taking over the socket: %w", err)
	}
	return p, f, conn, nil
}

// lockDir takes the directory's lock, waiting for an older keeper to finish what it owes.
func lockDir(ctx context.Context, dir string, gone <-chan struct{}) (*os.File, error) {
	wait, err := time.ParseDuration(os.Getenv(envWait))
	if err != nil {
		wait = lockWait
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(wait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			_ = f.Close()
			return nil, fmt.Errorf("%w: %s: %w", ErrDirInUse, dir, err)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-gone:
			return nil, errors.Join(errors.New("agent ended before the old keeper did"), f.Close())
		case <-time.After(lockRetry):
		}
	}
}

// run serves until the agent is gone, asks for it, or a signal comes, and then releases everything in order.
func (s *server) run(ctx context.Context, gone <-chan struct{}) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	defer signal.Stop(term)
	return s.until(ctx, gone, term)
}

// yield takes the leases away from an agent that may be writing under them: they stop being usable at once. They are
// freed when the agent gives them back, which is its word that no write of its is on the way, or when it is gone. A time
// would prove nothing: a write that was given up by its deadline may land at any time after. An agent that does neither
// is ended.
func (s *server) yield(gone <-chan struct{}) error {
	patience := time.After(s.withdrawSpaces())
	tick := time.NewTicker(yieldPoll)
	defer tick.Stop()
	for s.agentHolds() {
		select {
		case <-gone:
			return s.end(true)
		case <-s.stop:
			return s.end(false)
		case <-patience:
			s.killAgent()
		case <-tick.C:
		}
	}
	// Where a lockspace is lost and the agent has not confirmed, its end is the only proof that is left.
	s.awaitWound(gone)
	return s.end(false)
}

// withdrawSpaces makes all guards fail and returns the longest time after which leases expire.
func (s *server) withdrawSpaces() time.Duration {
	var longest time.Duration
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		s.page.dropLockspace(sp.slot)
		longest = max(longest, sp.spec.Profile.Expiry())
	}
	return longest
}

// agentHolds says whether the agent has leases that it did not give back, or gives one back right now: ending would cancel that call.
func (s *server) agentHolds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		for _, h := range sp.held {
			if h.tied == nil {
				return true
			}
		}
		for h := range sp.freeing {
			if h.tied == nil {
				return true
			}
		}
	}
	return false
}

// end stops all calls and releases what is left.
func (s *server) end(waitRemote bool) error {
	s.mu.Lock()
	for _, sp := range s.spaces {
		s.page.dropLockspace(sp.slot)
	}
	s.mu.Unlock()
	s.halt()
	// No limit: processes that hold leases must be gone before this one may go.
	s.confirmAll(context.Background(), waitRemote)
	err := s.releaseAll(context.Background(), waitRemote, false)
	s.confirmAll(context.Background(), waitRemote) // what was lost meanwhile, with leases of the agent not released yet
	s.awaitWound(nil)
	s.watches.Wait()
	if err != nil {
		s.log.Error("not everything could be released, other hosts have to wait", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		_ = d.Close()
	}
	for _, d := range s.former {
		_ = d.Close()
	}
	return err
}
