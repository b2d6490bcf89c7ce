//go:build jepsen

package httpapi

import (
	"net/http/httptest"
	"testing"

	"github.com/holdfast-io/holdfast/internal/plant"
)

func TestWantsConsistent_planted(t *testing.T) {
	r := httptest.NewRequest("GET", "/v1/volumes?consistent=true", nil)
	if !wantsConsistent(r) {
		t.Fatal("without the mistake")
	}
	defer plant.Set(plant.StaleRead)()
	if wantsConsistent(r) {
		t.Error("the leader is still asked")
	}
}
