package domain

import "sync"

// writeWidth is how many writes of a batch are under way at once.
const writeWidth = 16

// parallel calls f(0..n-1), at most writeWidth at a time, and waits for all.
func parallel(n int, f func(i int)) {
	if n <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, writeWidth) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
