package domain

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

type sizeVectors struct {
	Alloc []struct {
		Type, Format string
		Capacity     int64
		Initial      *int64
		Bytes        json.RawMessage
		Extents      *int64
	}
	MaxSize []struct {
		Capacity int64
		BlockCow int64 `json:"block_cow"`
	} `json:"max_size"`
	OptimalCow []struct {
		Required, Capacity, Bytes int64
		Leaf                      bool
	} `json:"optimal_cow"`
	FreeSlot []struct {
		Version  int
		Occupied []int
		Free     int
	} `json:"free_slot"`
	MetadataOffset []struct {
		Version, Slot int
		Offset        int64
	} `json:"metadata_offset"`
	VolumeLeaseOffset []struct {
		AlignmentMiB int64 `json:"alignment_mib"`
		Slot         int
		Offset       int64
	} `json:"volume_lease_offset"`
}

func vectors(t *testing.T) sizeVectors {
	t.Helper()
	var v sizeVectors
	if err := json.Unmarshal(golden(t, "sizes.json"), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAllocation_golden(t *testing.T) {
	t.Parallel()
	v := vectors(t)
	if len(v.Alloc) < 100 {
		t.Fatalf("only %d vectors", len(v.Alloc))
	}
	for _, c := range v.Alloc {
		var initial int64
		if c.Initial != nil {
			initial = *c.Initial
		}
		got, err := allocation(formatWord(c.Format), strings.ToLower(c.Type), c.Capacity, initial)
		want, numErr := strconv.ParseInt(string(c.Bytes), 10, 64)
		if (numErr != nil) != (err != nil) || numErr == nil && got != want {
			t.Errorf("%+v initial %d: got %d %v", c, initial, got, err)
		}
		if err == nil && roundUp(float64(roundUp(float64(got), mib)), extentUnit)/extentUnit != *c.Extents {
			t.Errorf("%+v: extents", c)
		}
	}
}

func TestSizeRules_golden(t *testing.T) {
	t.Parallel()
	v := vectors(t)
	for _, c := range v.MaxSize {
		if got := maxCow(c.Capacity); got != c.BlockCow {
			t.Errorf("maxCow(%d) = %d, want %d", c.Capacity, got, c.BlockCow)
		}
	}
	for _, c := range v.OptimalCow {
		if got := optimalCow(c.Required, c.Capacity, c.Leaf); got != c.Bytes {
			t.Errorf("optimalCow(%d, %d, %v) = %d, want %d", c.Required, c.Capacity, c.Leaf, got, c.Bytes)
		}
	}
}

func TestPlaces_golden(t *testing.T) {
	t.Parallel()
	v := vectors(t)
	for _, c := range v.FreeSlot {
		used := map[int]bool{}
		for _, s := range c.Occupied {
			used[s] = true
		}
		got, err := freeSlot(geometry{version: c.Version}.firstSlot(), func(s int) bool { return used[s] })
		if err != nil || got != c.Free {
			t.Errorf("%+v: got %d %v", c, got, err)
		}
	}
	for _, c := range v.MetadataOffset {
		if got := (geometry{version: c.Version}).slotOffset(c.Slot); got != c.Offset {
			t.Errorf("%+v: got %d", c, got)
		}
	}
	for _, c := range v.VolumeLeaseOffset {
		if got := (geometry{align: c.AlignmentMiB * mib}).leaseOffset(c.Slot); got != c.Offset {
			t.Errorf("%+v: got %d", c, got)
		}
	}
	if _, err := freeSlot(1, func(int) bool { return true }); err == nil {
		t.Error("a full domain has no free slot")
	}
}
