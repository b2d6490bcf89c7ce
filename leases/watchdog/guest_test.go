//go:build vmtest

package watchdog

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/internal/clock"
)

// These tests run in a guest of `make vmtest`: a real kernel's softdog. They are compiled for it only.

const guestFire = 6 * time.Second

// TestGuest_stops opens, pets and stops the device; the machine must live on for longer than its time.
func TestGuest_stops(t *testing.T) {
	clk := clock.System{}
	w := guestDog(t)
	e := w.Entry("space")
	if err := e.Use(t.Context(), clk.Boot()+guestFire); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		e.Renewed(clk.Boot() + guestFire)
		time.Sleep(2 * time.Second)
	}
	e.Done()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(guestFire + 3*time.Second)
	fmt.Println("watchdog: petted for longer than its time, stopped, and the machine lives")
}

// TestGuest_fires stops renewing with users: the machine is reset between the expiry and W after it.
func TestGuest_fires(t *testing.T) {
	clk := clock.System{}
	w := guestDog(t)
	e := w.Entry("space")
	expiry := clk.Boot() + guestFire
	if err := e.Use(t.Context(), expiry); err != nil {
		t.Fatal(err)
	}
	time.Sleep(expiry - clk.Boot() - time.Second)
	fmt.Println("watchdog: the lease is good for another second")
	time.Sleep(expiry - clk.Boot())
	fmt.Println("watchdog: the lease has expired")
	time.Sleep(guestFire + 3*time.Second)
	fmt.Println("watchdog: not reset in time")
	t.Fatal("the machine was not reset")
}

func guestDog(t *testing.T) *Watchdog {
	t.Helper()
	w := New(Config{Spec: Spec{Kind: Device, Path: DefaultDevice}, Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	p, err := w.Choose(t.Context(), guestFire)
	if err != nil || !p.Protected() || p.Fire != guestFire {
		t.Fatalf("%+v, %v", p, err)
	}
	return w
}
