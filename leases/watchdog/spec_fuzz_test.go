package watchdog

import "testing"

// FuzzParseSpec: what is accepted is written as it is read.
func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"auto", "none", "device", "device:/dev/watchdog1", "wdmd", "wdmd:/run/wdmd/wdmd.sock", "device:", "none:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseSpec(s)
		if err != nil {
			return
		}
		if again, err := ParseSpec(spec.String()); err != nil || again != spec {
			t.Errorf("%q gives %+v, %q gives %+v, %v", s, spec, spec.String(), again, err)
		}
	})
}
