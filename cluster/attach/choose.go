package attach

import (
	"context"
	"errors"
	"fmt"
)

// choose is the mapper for a volume: the one of that kind, or the first that fits.
func (m *Manager) choose(v Volume, kind string) (Mapper, error) {
	var errs []error
	for _, p := range m.cfg.Mappers {
		if kind != "" && p.Kind() != kind {
			continue
		}
		err := p.Fits(v)
		if err == nil {
			return p, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.Kind(), err))
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%w: this host has no mapper %q", ErrMapper, kind)
	}
	return nil, fmt.Errorf("%w: %w", ErrMapper, errors.Join(errs...))
}

// mapperOf is the mapper that a record was made by.
func (m *Manager) mapperOf(r Record) (Mapper, error) {
	for _, p := range m.cfg.Mappers {
		if p.Kind() == r.Mapper {
			return p, nil
		}
	}
	return nil, fmt.Errorf("volume %s was mapped by %q: %w: %w", r.Volume, r.Mapper, ErrMapper, ErrStillThere)
}

// clear ends for good what a record names.
func (m *Manager) clear(ctx context.Context, r Record) error {
	p, err := m.mapperOf(r)
	if err != nil {
		return err
	}
	return p.Clear(ctx, r)
}

// find takes up what a record names.
func (m *Manager) find(ctx context.Context, r Record) (Mapping, error) {
	p, err := m.mapperOf(r)
	if err != nil {
		return nil, err
	}
	return p.Find(ctx, r)
}

// end ends what a record names for now.
func (m *Manager) end(ctx context.Context, r Record) error {
	p, err := m.mapperOf(r)
	if err != nil {
		return err
	}
	return p.End(ctx, r)
}
