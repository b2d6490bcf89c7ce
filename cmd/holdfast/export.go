package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/mapper/export"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/internal/plant"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

// Descriptors that the agent hands to an export.
const (
	exportSpecFD = 3 + iota
	exportReadyFD
	exportPageFD // of one for writing only
)

const exportVerb = "export"

// newExportCommand is the process that serves an attached volume, a child that the agent starts and that outlives it.
func newExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:    exportVerb,
		Short:  "Serve a volume that the agent has attached (not for people)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("part", "export")
			spec, ready := os.NewFile(exportSpecFD, "spec"), os.NewFile(exportReadyFD, "ready")
			syscall.CloseOnExec(exportPageFD)
			return export.Main(cmd.Context(), export.Process{Spec: spec, Ready: ready, Guard: exportGuard, Log: log})
		},
	}
}

// exportGuard looks the volume's lease up in the keeper's page, which this process was started with.
func exportGuard(_ context.Context, s export.Spec) (blockdev.Guard, error) {
	var spec keeper.GuardSpec
	if err := json.Unmarshal(s.Guard, &spec); err != nil {
		return nil, fmt.Errorf("the lease's place in the keeper's page: %w", err)
	}
	return pageGuard(spec)
}

// pageGuard is the guard of a lease in the page that this process was started with.
func pageGuard(spec keeper.GuardSpec) (blockdev.Guard, error) {
	page := os.NewFile(exportPageFD, "page")
	defer page.Close() // the mapping stays
	if plant.On(plant.UnguardedExport) {
		return unguarded{}, nil
	}
	return keeper.OpenGuard(page, spec)
}

// unguarded is the planted mistake plant.UnguardedExport.
type unguarded struct{}

func (unguarded) Check(time.Duration) error { return nil }
func (unguarded) Epoch() uint64             { return 0 }

// spawnExport starts an export.
func spawnExport(page *os.File) (attach.Child, error) { return spawnMapping(exportVerb, page) }

// spawnMapping starts a process that serves a mapping. It gets a session of its own, and nobody of this process waits for it: it is
// to outlive it.
func spawnMapping(verb string, page *os.File) (attach.Child, error) {
	specR, specW, err := os.Pipe()
	if err != nil {
		return attach.Child{}, err
	}
	defer specR.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return attach.Child{}, errors.Join(err, specW.Close())
	}
	defer readyW.Close()
	cmd := exec.CommandContext(context.Background(), self(), verb) // no context: it outlives us
	cmd.ExtraFiles = []*os.File{specR, readyW}
	if page != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, page)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return attach.Child{}, errors.Join(err, specW.Close(), readyR.Close())
	}
	c := attach.Child{PID: cmd.Process.Pid, Spec: specW, Ready: readyR}
	return c, cmd.Process.Release() // package attach takes its status by its number
}
