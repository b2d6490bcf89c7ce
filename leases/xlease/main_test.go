package xlease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
	"github.com/holdfast-io/holdfast/leases"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSpace = "8adbc85e-e554-4ae0-b318-8a5465fe5fe1"
	mib       = int64(1) << 20
)

// idOf is 11111111-1111-4111-8111-111111111111 and so on for 1 to 9, other ids above.
func idOf(n int) string {
	if n > 9 {
		return fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	}
	return fmt.Sprintf("%[1]s%[1]s-%[1]s-4%[2]s-8%[2]s-%[1]s%[1]s%[1]s", fmt.Sprintf("%[1]d%[1]d%[1]d%[1]d", n), fmt.Sprintf("%[1]d%[1]d%[1]d", n))
}

// atGoldenTime is the time of the golden files.
func atGoldenTime() time.Time { return time.Unix(1700000000, 0) }

// bench is a volume in memory with a lockspace beside it.
type bench struct {
	*Volume
	t    testing.TB
	mem  *blockdev.Mem
	ids  *blockdev.Mem
	seen []leases.HostStatus // what a renewal loop would have observed
}

// newVolume makes a formatted volume with room for n leases and a lockspace that nobody has joined.
func newVolume(t testing.TB, geo leases.Geometry, n int) *bench {
	t.Helper()
	b := emptyVolume(t, geo, n)
	if err := b.Format(testutil.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	return b
}

// emptyVolume is newVolume without the index.
func emptyVolume(t testing.TB, geo leases.Geometry, n int) *bench {
	t.Helper()
	b := &bench{t: t, mem: blockdev.NewMem(int64(3+n)*geo.AlignSize, geo.SectorSize),
		ids: blockdev.NewMem(geo.AlignSize, geo.SectorSize)}
	if err := leases.InitLockspace(testutil.Deadline(t), b.ids, 0, geo, testSpace, time.Second); err != nil {
		t.Fatal(err)
	}
	b.on(b.mem, geo)
	return b
}

// on makes the volume use another device.
func (b *bench) on(dev blockdev.Device, geo leases.Geometry) {
	b.t.Helper()
	v, err := New(Config{Device: dev, Lockspace: testSpace, Geometry: geo, NumHosts: 250, Now: atGoldenTime})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Volume = v
}

// hosts is the survey of the lockspace.
func (b *bench) hosts(ctx context.Context) (*leases.Survey, error) {
	return leases.ReadSurvey(ctx, b.ids, 0, b.geo, testSpace, 250, b.seen)
}

// add makes leases.
func (b *bench) add(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		if _, made, err := b.Add(testutil.Deadline(b.t), id); err != nil || !made {
			b.t.Fatalf("adding %s: made %t, %v", id, made, err)
		}
	}
}

// index is the index area as it lies on the device.
func (b *bench) index() []byte { return b.mem.Bytes(b.indexOffset(), IndexSize) }

// resource names what lies in the place of record n.
func (b *bench) resource(n int) string {
	b.t.Helper()
	space, id, err := leases.ResourceAt(b.mem.Bytes(resourceOffset(n, b.geo.AlignSize), 4096))
	switch {
	case errors.Is(err, leases.ErrNoLease):
		return ""
	case err != nil:
		return "damaged"
	case space != testSpace:
		return space + "/" + id
	}
	return id
}

// setRecord overwrites a record behind the volume's back.
func (b *bench) setRecord(n int, p []byte) {
	b.mem.SetBytes(b.indexOffset()+headSize+int64(n*recordSize), p)
}

// setResource writes a resource behind the volume's back.
func (b *bench) setResource(n int, space, id string) {
	b.t.Helper()
	err := leases.InitResource(testutil.Deadline(b.t), b.mem, resourceOffset(n, b.geo.AlignSize), b.geo, space, id, 250)
	if err != nil {
		b.t.Fatal(err)
	}
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/golden/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// geometries are all that can occur.
func geometries() map[string]leases.Geometry {
	return map[string]leases.Geometry{
		"512-1M":  leases.Geometry512,
		"4096-1M": {SectorSize: 4096, AlignSize: mib},
		"4096-2M": {SectorSize: 4096, AlignSize: 2 * mib},
		"4096-8M": {SectorSize: 4096, AlignSize: 8 * mib},
	}
}
