//go:build jepsen

package plant_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/internal/plant"
)

func TestOn_environment(t *testing.T) {
	if os.Getenv(plant.Env) == plant.StaleRead+","+plant.DoubleFree {
		if !plant.On(plant.StaleRead) || !plant.On(plant.DoubleFree) || plant.On(plant.LateWrite) {
			t.Error("other mistakes than those that were asked for")
		}
		return
	}
	child := func(value string) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOn_environment$", "-test.count=1")
		cmd.Env = append(os.Environ(), plant.Env+"="+value)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := child(plant.StaleRead + "," + plant.DoubleFree); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := child("stale-reed"); err == nil || !strings.Contains(out, plant.StaleRead) {
		t.Errorf("a mistake that does not exist: %v\n%s", err, out)
	}
}

func TestSet(t *testing.T) {
	undo := plant.Set(plant.LateWrite)
	if !plant.On(plant.LateWrite) || plant.On(plant.StaleRead) {
		t.Error("not what was set")
	}
	undo()
	if plant.On(plant.LateWrite) {
		t.Error("it stays")
	}
}
