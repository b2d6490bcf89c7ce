package blockdev_test

import (
	"context"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

const benchBytes = 450 << 10

// BenchmarkWrite450K compares a write through the device with the bare system call.
func BenchmarkWrite450K(b *testing.B) {
	file := testutil.SparseFile(b, "lun", devSize)
	if err := os.WriteFile(file, make([]byte, devSize), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("device", func(b *testing.B) { benchDevice(b, file) })
	b.Run("syscall", func(b *testing.B) { benchSyscall(b, file) })
}

func benchDevice(b *testing.B, file string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	d, err := blockdev.Open(ctx, file, blockdev.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, benchBytes)
	b.SetBytes(benchBytes)
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(ctx, time.Second*10)
		if err := d.WriteAt(ctx, p, 0); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}

func benchSyscall(b *testing.B, file string) {
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	raw := make([]byte, benchBytes+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&raw[0]))%4096)
	p := raw[skip : skip+benchBytes]
	b.SetBytes(benchBytes)
	for b.Loop() {
		if _, err := unix.Pwrite(fd, p, 0); err != nil {
			b.Fatal(err)
		}
	}
}
