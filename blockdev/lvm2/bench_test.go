package lvm2

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/internal/testutil"
)

// benchGroup is a VDSM-like group with n volumes of one extent and the tags VDSM gives, on a device in memory.
func benchGroup(b testing.TB, n int) (*Group, context.Context) {
	return benchGroupOn(b, n, blockdev.NewMem(8<<40, 512))
}

func benchGroupOn(b testing.TB, n int, dev blockdev.Device) (*Group, context.Context) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	b.Cleanup(cancel)
	g, err := Create(ctx, CreateOptions{Name: "5d9b7d2f-4b7e-4b0e-9d0a-1f6f0f1f3c11", Devices: []blockdev.Device{dev}, Host: "bench"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	tx := g.Begin()
	for i := range n {
		if _, err := tx.CreateLV(benchName(i), 1<<30, LVOptions{Tags: benchTags(i)}); err != nil {
			b.Fatal(err)
		}
	}
	if err := g.Commit(ctx, tx, nil, "fill"); err != nil {
		b.Fatal(err)
	}
	g.opt.Verify = false // as in production
	return g, ctx
}

func benchName(i int) string { return fmt.Sprintf("%08x-4b7e-4b0e-9d0a-1f6f0f1f3c11", i) }

func benchTags(i int) []string {
	return []string{fmt.Sprintf("IU_%08x-9f6d-4c1e-8a3f-0f1e2d3c4b5a", i), "PU_00000000-0000-0000-0000-000000000000", fmt.Sprintf("MD_%d", i+4)}
}

// BenchmarkCommit measures one volume created, or a group of them, and committed. The device is memory, so what
// remains is the work of this package and two copies of the text.
func BenchmarkCommit(b *testing.B) {
	benchCommit(b, func(b *testing.B, n int) (*Group, context.Context) { return benchGroup(b, n) })
}

// BenchmarkCommitFile is BenchmarkCommit on a sparse file with direct I/O and real flushes.
func BenchmarkCommitFile(b *testing.B) {
	benchCommit(b, func(b *testing.B, n int) (*Group, context.Context) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		dev, err := blockdev.Open(ctx, testutil.SparseFile(b, "lun", 8<<40), blockdev.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { dev.Close() })
		return benchGroupOn(b, n, dev)
	})
}

func benchCommit(b *testing.B, prepare func(*testing.B, int) (*Group, context.Context)) {
	for _, n := range []int{10, 500, 2000, 5000} {
		for _, group := range []int{1, 64} {
			b.Run(fmt.Sprintf("lvs=%d/group=%d", n, group), func(b *testing.B) {
				g, ctx := prepare(b, n)
				b.ReportAllocs()
				for b.Loop() {
					tx := g.Begin()
					for i := range group {
						if _, err := tx.CreateLV(benchName(n+i), 1<<30, LVOptions{Tags: benchTags(n + i)}); err != nil {
							b.Fatal(err)
						}
					}
					if err := g.Commit(ctx, tx, nil, "bench"); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					tx = g.Begin()
					for i := range group {
						if err := tx.RemoveLV(benchName(n + i)); err != nil {
							b.Fatal(err)
						}
					}
					if err := g.Commit(ctx, tx, nil, "bench"); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				b.ReportMetric(float64(g.VG().TextSize()), "text-bytes")
				b.ReportMetric(float64(b.N*group)/b.Elapsed().Seconds(), "volumes/s")
			})
		}
	}
}

// BenchmarkPrepare is the part of a commit that is not I/O: text, checks, CRC.
func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{500, 2000, 5000} {
		b.Run(fmt.Sprintf("lvs=%d", n), func(b *testing.B) {
			g, _ := benchGroup(b, n)
			b.ReportAllocs()
			for b.Loop() {
				tx := g.Begin()
				if _, err := tx.CreateLV("new", 1<<30, LVOptions{Tags: benchTags(n)}); err != nil {
					b.Fatal(err)
				}
				c := &commit{mdas: g.cur.Load().mdasInUse()}
				if err := c.prepare(g, tx, "bench"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBegin is what an empty transaction costs.
func BenchmarkBegin(b *testing.B) {
	g, _ := benchGroup(b, 2000)
	b.ReportAllocs()
	for b.Loop() {
		g.Begin()
	}
}

// BenchmarkParse is what reading a changed text costs.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{500, 2000, 5000} {
		b.Run(fmt.Sprintf("lvs=%d", n), func(b *testing.B) {
			g, _ := benchGroup(b, n)
			text := g.VG().appendText(nil, header{description: "x", host: "y"})
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseText(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCheckStrict is what Options.Verify costs.
func BenchmarkCheckStrict(b *testing.B) {
	g, _ := benchGroup(b, 2000)
	text := g.VG().appendText(nil, header{description: "x", host: "y"})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := CheckStrict(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefresh is a Refresh that finds nothing new.
func BenchmarkRefresh(b *testing.B) {
	g, ctx := benchGroup(b, 2000)
	for b.Loop() {
		if _, err := g.Refresh(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefreshExtended is a Refresh that finds one volume larger: what a host does after each extension.
func BenchmarkRefreshExtended(b *testing.B) {
	for _, n := range []int{10, 2000} {
		b.Run(fmt.Sprintf("lvs=%d", n), func(b *testing.B) {
			g, ctx := benchGroup(b, n)
			follower, err := OpenWith(ctx, g.Devices(), Options{Follow: true})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				b.StopTimer()
				tx := g.Begin()
				if _, err := tx.ExtendLV(benchName((i*7)%n), int64(2+i/n)<<30); err != nil {
					b.Fatal(err)
				}
				if err := g.Commit(ctx, tx, nil, "extend"); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := follower.Refresh(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
