package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/blockdev"
	kernel "github.com/holdfast-io/holdfast/blockdev/mapper/dm"
	"github.com/holdfast-io/holdfast/cluster/attach"
	"github.com/holdfast-io/holdfast/cluster/attach/dm"
	"github.com/holdfast-io/holdfast/leases/keeper"
)

const deviceVerb = "device"

// newDeviceCommand is the process that looks after the device of an attached volume, a child that the agent starts and that outlives
// it. Its descriptors are those of an export.
func newDeviceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    deviceVerb,
		Short:  "Look after the device of a volume that the agent has attached (not for people)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("part", "device")
			spec, ready := os.NewFile(exportSpecFD, "spec"), os.NewFile(exportReadyFD, "ready")
			syscall.CloseOnExec(exportPageFD)
			devices, err := newDevices(log)
			if err != nil {
				return err
			}
			return dm.Main(cmd.Context(), dm.Process{Spec: spec, Ready: ready, Guard: deviceGuard, Devices: devices, Log: log})
		},
	}
}

// newDevices is this machine's device-mapper.
func newDevices(log *slog.Logger) (*kernel.Mapper, error) {
	cfg := kernel.DefaultConfig()
	cfg.Log = log
	return kernel.New(cfg)
}

// deviceGuard looks the volume's lease up in the keeper's page.
func deviceGuard(s dm.Spec) (blockdev.Guard, error) {
	var spec keeper.GuardSpec
	if err := json.Unmarshal(s.Guard, &spec); err != nil {
		return nil, fmt.Errorf("the lease's place in the keeper's page: %w", err)
	}
	return pageGuard(spec)
}

func spawnHolder(page *os.File) (attach.Child, error) { return spawnMapping(deviceVerb, page) }

// cutDevice is what the keeper does to a device whose holder has ended: the lease is not freed before. The kernel is asked for
// device-mapper each time, for the module may be loaded after the keeper was started.
func cutDevice(log *slog.Logger) keeper.Cut {
	return func(ctx context.Context, uuid string) error {
		devices, err := newDevices(log)
		if err != nil {
			return err
		}
		err = devices.Freeze(ctx, kernel.Identity{Name: uuid, UUID: uuid})
		return errors.Join(err, devices.Close(ctx))
	}
}
