package export

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
)

// TestBuffers_inTurn: when all memory is out, who asks first is served first, and one that leaves holds nobody up.
func TestBuffers_inTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &buffers{limit: 64 * kib}
		a, err := p.get(t.Context(), 40*kib) // takes 64 KiB
		if err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		var got []int
		ask := func(ctx context.Context, n int) {
			go func() {
				b, err := p.get(ctx, n)
				if err != nil {
					return
				}
				got = append(got, n)
				p.put(b)
			}()
			synctest.Wait()
		}
		ask(gone, 64*kib)
		ask(t.Context(), 33*kib)
		ask(t.Context(), 1)
		leave()
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("served %v while all was out", got)
		}
		p.put(a)
		synctest.Wait()
		if len(got) != 2 || got[0] != 33*kib || p.out != 0 || p.mapped > p.limit || len(p.waiting) != 0 {
			t.Errorf("served %v; out %d, mapped %d, waiting %d", got, p.out, p.mapped, len(p.waiting))
		}
		p.close()
		if p.mapped != 0 {
			t.Errorf("%d bytes mapped after close", p.mapped)
		}
	})
}

// TestServer_rates: what was written counts less as time goes by.
func TestServer_rates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serveMem(t, testConfig(), blockdev.NewMem(1<<20, 512), 512*kib)
		p := connect(t, s, true)
		for i := range int64(40) { // 80 KiB/s, of which every second block is new
			if err := p.write(i/2*8*kib, make([]byte, 8*kib), 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // of the bubble
		}
		st := s.Status()
		if st.WriteRate < 60*kib || st.WriteRate > 90*kib || st.GrowRate < 25*kib || st.GrowRate > 45*kib {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Minute)
		if st := s.Status(); st.WriteRate != 0 || st.GrowRate != 0 {
			t.Errorf("a minute later: %+v", st)
		}
	})
}
