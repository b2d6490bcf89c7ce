package lun

// Hang makes the path a black hole: requests are received, nothing is answered, nothing lands, until Release. New connections
// are accepted and hear nothing.
func (p *Path) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung {
		return
	}
	p.hung, p.thaw = true, make(chan struct{})
}

// Stick lets one request in n hang, as the dice choose, while the others pass, until Release: commands that an array has lost, and may
// find again. 0 ends that for those that come.
func (p *Path) Stick(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stick = n
}

// Release ends Hang and Stick. With land, what hung has landed when Release returns, in an order that the dice choose, and is answered
// if its connection still exists; a path that is cut meanwhile does not keep it from landing. Otherwise it is dropped with
// its connections. It returns how many requests hung.
func (p *Path) Release(land bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held
	p.hung, p.stick, p.held = false, 0, nil
	if p.thaw != nil {
		close(p.thaw)
		p.thaw = nil
	}
	p.dice.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	if !land && len(held) > 0 {
		p.dropAll()
	}
	for _, r := range held {
		if !land {
			p.lose(r)
			continue
		}
		a := p.perform(r)
		p.l.running.Go(func() { a.send() })
	}
	return len(held)
}

// Held is how many requests hang.
func (p *Path) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

// melted is closed when the path does not hang.
func (p *Path) melted() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thaw != nil {
		return p.thaw
	}
	c := make(chan struct{})
	close(c)
	return c
}
