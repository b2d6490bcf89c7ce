//go:build !jepsen

package plant_test

import (
	"testing"

	"github.com/holdfast-io/holdfast/internal/plant"
)

// Whatever the environment says.
func TestOn_never(t *testing.T) {
	for _, n := range plant.Names() {
		t.Setenv(plant.Env, n)
		if plant.On(n) {
			t.Errorf("%s is planted", n)
		}
	}
}
