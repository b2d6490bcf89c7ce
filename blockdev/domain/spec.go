package domain

import "fmt"

// normalise checks a spec and fills in what follows from the rest.
func (s *VolumeSpec) normalise() error {
	if s.Parent == NilUUID {
		s.Parent = ""
	}
	if s.DiskType == "" {
		s.DiskType = "DATA"
	}
	if s.Allocation == "" {
		s.Allocation = Sparse
		if s.Format == FormatRaw {
			s.Allocation = Preallocated
		}
	}
	if err := s.checkIDs(); err != nil {
		return err
	}
	if err := s.checkKind(); err != nil {
		return err
	}
	if err := s.checkSizes(); err != nil {
		return err
	}
	if len(s.Name) > maxName {
		return fmt.Errorf("name of %d bytes, at most %d are allowed: %w", len(s.Name), maxName, ErrInvalid)
	}
	if err := checkText("name", s.Name); err != nil {
		return err
	}
	return checkText("description", s.Description)
}

func (s *VolumeSpec) checkIDs() error {
	for _, id := range [...]struct{ what, id string }{{"volume id", s.ID}, {"image id", s.Image}} {
		if !validUUID(id.id) || id.id == NilUUID {
			return fmt.Errorf("%s %.60q is not a lower-case UUID: %w", id.what, id.id, ErrInvalid)
		}
	}
	switch {
	case s.Parent != "" && !validUUID(s.Parent):
		return fmt.Errorf("parent id %.60q is not a lower-case UUID: %w", s.Parent, ErrInvalid)
	case s.Parent == s.ID:
		return fmt.Errorf("a volume cannot be its own parent: %w", ErrInvalid)
	}
	return nil
}

func (s *VolumeSpec) checkKind() error {
	switch {
	case s.Format != FormatRaw && s.Format != FormatQcow2:
		return fmt.Errorf("format %.40q, known are raw and qcow2: %w", s.Format, ErrInvalid)
	case s.Allocation != Sparse && s.Allocation != Preallocated:
		return fmt.Errorf("allocation %.40q, known are sparse and preallocated: %w", s.Allocation, ErrInvalid)
	case s.Parent != "" && s.Format != FormatQcow2:
		return fmt.Errorf("a volume with a parent must be qcow2: %w", ErrInvalid)
	case len(s.DiskType) != 4:
		return fmt.Errorf("disk type %.40q: %w", s.DiskType, ErrInvalid)
	}
	for _, c := range []byte(s.DiskType) {
		if c < 'A' || c > 'Z' {
			return fmt.Errorf("disk type %.40q: %w", s.DiskType, ErrInvalid)
		}
	}
	return nil
}

// checkSizes bounds the sizes and rounds them up as the size rule wants them.
func (s *VolumeSpec) checkSizes() error {
	if s.Capacity <= 0 || s.Capacity > MaxCapacity {
		return fmt.Errorf("size of %d bytes is not within 1 byte and 8 TiB: %w", s.Capacity, ErrInvalid)
	}
	if s.InitialSize < 0 {
		return fmt.Errorf("initial size of %d bytes: %w", s.InitialSize, ErrInvalid)
	}
	s.Capacity = roundUp(float64(s.Capacity), 4*kib)
	s.InitialSize = roundUp(float64(min(s.InitialSize, 2*MaxCapacity)), 4*kib)
	_, err := allocation(s.Format, s.Allocation, s.Capacity, s.InitialSize)
	return err
}

// same tells what distinguishes an existing volume from the one a spec asks for; empty if nothing does. The size of a
// raw volume is that of its LV. Name and description of a volume that was changed since (its generation is not 0 any more)
// say nothing about what it was created as.
func (s *VolumeSpec) same(v *Volume, extent int64) string {
	capacity := s.Capacity
	if s.Format == FormatRaw {
		capacity = roundUp(float64(capacity), extent)
	}
	switch {
	case v.Image != s.Image:
		return "image " + v.Image
	case v.Generation == 0 && v.Name != s.Name:
		return fmt.Sprintf("name %q", v.Name)
	case v.Generation == 0 && v.Description != s.Description:
		return fmt.Sprintf("description %q", v.Description)
	case v.Format != s.Format:
		return "format " + v.Format
	case v.Allocation != s.Allocation:
		return "allocation " + v.Allocation
	case v.Parent != s.Parent:
		return "parent " + parentOnDisk(v.Parent)
	case v.Capacity != capacity:
		return fmt.Sprintf("size %d", v.Capacity)
	}
	return ""
}

// meta is the metadata slot of a new volume.
func (s *VolumeSpec) meta(domain string, created, lvSize int64) (*slotMeta, error) {
	description, err := encodeDescription(s.Name, s.Description)
	if err != nil {
		return nil, err
	}
	m := &slotMeta{
		capacity: s.Capacity, ctime: created, description: description, diskType: s.DiskType, domain: domain,
		format: formatOnDisk(s.Format), image: s.Image, legality: legalityOnDisk(s.Illegal),
		parent: parentOnDisk(s.Parent), seq: int64(s.Sequence), alloc: upper(s.Allocation), volType: "LEAF",
	}
	if s.Format == FormatRaw {
		m.capacity = lvSize
	}
	return m, nil
}
