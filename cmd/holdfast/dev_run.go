package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// devRun holds the goroutines that own the hosts' processes, so that the hosts can be stopped one by one.
type devRun struct {
	pool   *devPool
	cancel []context.CancelFunc
	done   []chan struct{}
	errs   []error // by host; read after done
}

func newDevRun(p *devPool) *devRun {
	n := len(p.hosts)
	return &devRun{pool: p, cancel: make([]context.CancelFunc, n), done: make([]chan struct{}, n), errs: make([]error, n)}
}

// start runs every host. The hosts do not end with the caller's context: stop ends them, in order.
func (r *devRun) start() {
	for i, h := range r.pool.hosts {
		ctx, cancel := context.WithCancel(context.Background())
		r.cancel[i], r.done[i] = cancel, make(chan struct{})
		go func() {
			defer close(r.done[i])
			r.errs[i] = h.Run(ctx)
		}()
	}
}

// stop stops the hosts one after the other and waits for each: the last that joined first, the SPM's host at the very
// end, so that the role does not wander from host to host on its way down.
func (r *devRun) stop() {
	fmt.Fprintln(r.pool.out, "stopping the hosts ...")
	for _, i := range r.order() {
		r.cancel[i]()
		<-r.done[i]
	}
	fmt.Fprintln(r.pool.out, "stopped. The pool stays in "+r.pool.o.DataDir)
}

// order is the order to stop the hosts in, as indexes.
func (r *devRun) order() []int {
	spm := r.pool.spmHost()
	var first, last []int
	for i, h := range slices.Backward(r.pool.hosts) {
		if h.name == spm {
			last = append(last, i)
		} else {
			first = append(first, i)
		}
	}
	return append(first, last...)
}

// err joins what the hosts ended with. Call it after stop.
func (r *devRun) err() error { return errors.Join(r.errs...) }
