package join

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func box(t testing.TB, ca *CA, purpose string) *Box {
	t.Helper()
	b, err := ca.Box(purpose)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBox(t *testing.T) {
	t.Parallel()
	ca, err := NewCA("c", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	same, err := ParseCA(ca.CertPEM(), keyPEM) // as another member has it
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewCA("d", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := box(t, ca, "power").Seal("h1/bmc", []byte("s3cret"))
	if err != nil || bytes.Contains(sealed, []byte("s3cret")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	if got, err := box(t, same, "power").Open("h1/bmc", sealed); err != nil || string(got) != "s3cret" {
		t.Errorf("%q, %v", got, err)
	}
	again, _ := box(t, ca, "power").Seal("h1/bmc", []byte("s3cret"))
	if bytes.Equal(again, sealed) {
		t.Error("sealed twice it is the same: a reader would see that two devices have one password")
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another device":  func() ([]byte, error) { return box(t, ca, "power").Open("h2/bmc", sealed) },
		"another purpose": func() ([]byte, error) { return box(t, ca, "mail").Open("h1/bmc", sealed) },
		"another cluster": func() ([]byte, error) { return box(t, stranger, "power").Open("h1/bmc", sealed) },
		"one bit":         func() ([]byte, error) { return box(t, ca, "power").Open("h1/bmc", flipped) },
		"nothing":         func() ([]byte, error) { return box(t, ca, "power").Open("h1/bmc", nil) },
		"another version": func() ([]byte, error) { return box(t, ca, "power").Open("h1/bmc", append([]byte{9}, sealed[1:]...)) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzBox_Open(f *testing.F) {
	ca, err := NewCA("c", time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	b := box(f, ca, "power")
	sealed, err := b.Seal("n", []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := b.Open("n", data); err == nil && !bytes.Equal(data, sealed) {
			t.Errorf("opened what nobody sealed: %q", got)
		}
	})
}
