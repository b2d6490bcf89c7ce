package lun

// submit takes a request from its connection. It is carried out here and now unless the path delays it.
func (p *Path) submit(r *request) *reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !r.c.alive() { // it was cut between coming and here
		p.lose(r)
		return nil
	}
	r.cuts = p.cuts
	if d := p.delay(r); d > 0 {
		p.delayed++
		p.l.running.Go(func() { p.later(r, d) })
		return nil
	}
	return p.arrive(r)
}

// arrive is the moment at which a request would land. It returns the answer, if there is to be one; caller holds mu.
func (p *Path) arrive(r *request) *reply {
	switch {
	case p.down(), r.cuts != p.cuts:
		p.lose(r)
		return nil
	case p.hung, one(p, p.stick):
		p.held = append(p.held, r)
		return nil
	}
	return p.perform(r)
}

// lose ends a request that never lands; caller holds mu.
func (p *Path) lose(r *request) {
	if r.mutates() {
		p.l.disk.record(r.entry())
	}
	r.c.finished(r)
}

// perform carries out a request; caller holds mu.
func (p *Path) perform(r *request) *reply {
	if !r.mutates() {
		return p.read(r)
	}
	told := r.c.alive()
	if errno := r.check(p.l.size); errno != 0 {
		return p.refuse(r, errno, told)
	}
	if p.torn != nil && r.cmd == cmdWrite && r.n > Sector {
		return p.tear(r)
	}
	m := landing{e: r.entry(), data: r.data, dense: r.flags&flagNoHole != 0, told: told}
	if p.volatile && r.flags&flagFUA == 0 {
		m.volatile = p
	}
	if one(p, p.failWrites) {
		if p.dice.IntN(2) == 0 {
			return p.refuse(r, errIO, told)
		}
		m.e.Failed = true
	}
	if err := p.l.disk.land(m); err != nil || m.e.Failed {
		return &reply{r: r, errno: errIO}
	}
	return &reply{r: r}
}

// one throws the dice for a fault that happens one time in n; caller holds mu.
func one(p *Path, n int) bool { return n > 0 && p.dice.IntN(n) == 0 }

// read carries out a read; caller holds mu.
func (p *Path) read(r *request) *reply {
	if errno := r.check(p.l.size); errno != 0 {
		return &reply{r: r, errno: errno}
	}
	if one(p, p.failReads) {
		return &reply{r: r, errno: errIO}
	}
	data, err := p.l.disk.read(r.off, r.n)
	if err != nil {
		return &reply{r: r, errno: errIO}
	}
	return &reply{r: r, data: data}
}

// refuse answers a mutation with an error and lets nothing land.
func (p *Path) refuse(r *request, errno uint32, told bool) *reply {
	e := r.entry()
	e.Failed = true
	if told {
		e.Told = p.l.clock()
	}
	p.l.disk.record(e)
	return &reply{r: r, errno: errno}
}

// tear lands a part of a write; then there is no path any more.
func (p *Path) tear(r *request) *reply {
	e := r.entry()
	e.Torn = Sector * (1 + p.dice.Int64N(r.n/Sector-1))
	m := landing{e: e, data: r.data}
	if p.volatile && r.flags&flagFUA == 0 {
		m.volatile = p
	}
	_ = p.l.disk.land(m) // nobody is left to tell; Close says what the disk had
	p.cut = true
	p.dropAll()
	close(p.torn)
	p.torn = nil
	r.c.finished(r)
	return nil
}
