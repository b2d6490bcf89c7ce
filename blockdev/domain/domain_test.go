package domain

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/blockdev"
)

func TestCreate_opens(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	d := newDomain(t, lun)
	i := d.Info()
	if i.UUID != testDomain || i.Name != "test é" || i.Version != 5 || i.Role != "Master" || i.PoolUUID != testPool || i.ExtentSize != 128*mib || i.Free != i.Size-36*128*mib {
		t.Errorf("%+v", i)
	}
	mustBeClean(t, lun)
	dev, off, err := d.VolumeResource(1)
	if err != nil || dev != blockdev.Device(lun) || off != 129*mib+4*128*mib+101*mib {
		t.Errorf("VolumeResource(1) = %d %v", off, err)
	}
	if _, _, err := d.VolumeResource(MaxSlot + 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("slot beyond the bound: %v", err)
	}
}

func TestCreate_severalLUNs(t *testing.T) {
	t.Parallel()
	a, b := blockdev.NewMem(20*gib, 512).Rename("/dev/mapper/aaa"), blockdev.NewMem(20*gib, 512).Rename("/dev/mapper/bbb")
	d := newDomain(t, a, b)
	if k := d.Keys(); !strings.HasPrefix(k["PV0"], "pv:aaa,uuid:") || !strings.HasSuffix(k["PV1"], ",mapoffset:157") {
		t.Errorf("%v", k)
	}
	w := writer(t, d)
	for n := range 38 { // beyond the first LUN
		s := qcow(n)
		s.Capacity, s.InitialSize = 4*gib, 800*mib
		create(t, w, s)
	}
	mustBeClean(t, b, a)
}

func TestCreate_refused(t *testing.T) {
	t.Parallel()
	big := blockdev.NewMem(lunSize, 512)
	for name, c := range map[string]struct {
		change func(*CreateOptions)
		want   error
	}{
		"small":        {func(o *CreateOptions) { o.Devices = []blockdev.Device{blockdev.NewMem(4*gib, 512)} }, ErrTooSmall},
		"sectors":      {func(o *CreateOptions) { o.Devices = []blockdev.Device{blockdev.NewMem(lunSize, 4096)} }, ErrInvalid},
		"none":         {func(o *CreateOptions) { o.Devices = nil }, ErrInvalid},
		"upper case":   {func(o *CreateOptions) { o.UUID = strings.ToUpper(testDomain) }, ErrInvalid},
		"long name":    {func(o *CreateOptions) { o.Name = strings.Repeat("é", 51) }, ErrInvalid},
		"line break":   {func(o *CreateOptions) { o.Name = "a\nb" }, ErrInvalid},
		"no pool":      {func(o *CreateOptions) { o.PoolUUID = "" }, ErrInvalid},
		"type":         {func(o *CreateOptions) { o.Type = "NFS" }, ErrInvalid},
		"long name ok": {func(o *CreateOptions) { o.Name = strings.Repeat("é", 50) }, nil},
	} {
		o := testCreateOptions(big.Clone())
		c.change(&o)
		if _, err := Create(deadline(t), o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreate_foreignContent(t *testing.T) {
	t.Parallel()
	lun := blockdev.NewMem(lunSize, 512)
	lun.SetBytes(0, []byte("XFSB\x00\x00\x10\x00"))
	o := testCreateOptions(lun)
	_, err := Create(deadline(t), o)
	var use *InUseError
	if !errors.As(err, &use) || !errors.Is(err, ErrInUse) {
		t.Fatalf("XFS: %v", err)
	}
	if lun.Bytes(0, 4)[0] != 'X' {
		t.Fatal("refused, but destroyed")
	}
	o.Force = "something else"
	if _, err := Create(deadline(t), o); !errors.Is(err, ErrInUse) {
		t.Errorf("forced with another name: %v", err)
	}
	o.Force = use.Name
	if _, err := Create(deadline(t), o); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, lun)

	o.UUID, o.Force = "9adbc85e-e554-4ae0-b318-8a5465fe5fe1", ""
	if _, err = Create(deadline(t), o); !errors.As(err, &use) || use.Name != testDomain {
		t.Errorf("another domain: %v", err)
	}
	o.Force = testDomain
	if _, err := Create(deadline(t), o); err != nil {
		t.Errorf("forced over another domain: %v", err)
	}
}

func TestOpen_refused(t *testing.T) {
	t.Parallel()
	if _, err := Open(deadline(t), []blockdev.Device{blockdev.NewMem(lunSize, 512)}, testOptions()); err == nil {
		t.Error("an empty LUN opens")
	}
	lun := blockdev.NewMem(lunSize, 512)
	newDomain(t, lun)
	retag := func(add, del []string, wantBroken bool) error {
		copied := lun.Clone()
		d := openDomain(t, copied)
		tx := d.group.Begin()
		if err := tx.ChangeVGTags(add, del); err != nil {
			t.Fatal(err)
		}
		if err := d.group.Commit(deadline(t), tx, openGuard{}, "test"); err != nil {
			t.Fatal(err)
		}
		_, err := Open(deadline(t), []blockdev.Device{copied}, testOptions())
		o := testOptions()
		o.Tolerant = true
		if d, tolErr := Open(deadline(t), []blockdev.Device{copied}, o); tolErr == nil && wantBroken {
			if f, err := Check(deadline(t), d); err != nil || len(f) == 0 {
				t.Errorf("check of a broken domain: %v %v", f, err)
			}
			if _, _, err := d.BecomeWriter(deadline(t), openGuard{}); err == nil {
				t.Error("a broken domain gets a writer")
			}
		}
		return err
	}
	for name, c := range map[string]struct {
		add, del []string
		want     error
	}{
		"seal":       {[]string{"MDT_ROLE=Regular"}, []string{"MDT_ROLE=Master"}, ErrSealBroken},
		"no domain":  {nil, []string{tagReady}, ErrNotDomain},
		"unfinished": {[]string{tagUnready}, []string{tagReady}, ErrUnready},
		"foreign":    {[]string{"somebodys"}, nil, nil},
	} {
		if err := retag(c.add, c.del, c.want != nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
