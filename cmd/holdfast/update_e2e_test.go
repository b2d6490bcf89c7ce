package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// Volumes are renamed and described through any host, before and after the role has moved or its holder was killed, and
// each name is one volume's throughout.
func TestE2E_volumeUpdate(t *testing.T) {
	p := startPool(t)
	req := api.VolumeCreate{Name: "web", Size: gib}
	web, err := p.client(0).CreateVolume(deadline(t, 30*time.Second), req, "key-web")
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, p.client(1), "other", 1)
	for i := range p.file().Hosts {
		updateThrough(t, p, i, web.ID)
	}
	refusedUpdates(t, p, web.ID)

	before := mustSPM(t, p)
	if _, err := p.client(0).MoveSPM(deadline(t, 30*time.Second), api.SPMMove{}); err != nil {
		t.Fatal(err)
	}
	if v := mustUpdate(t, p.client(1), "web-2", api.VolumeUpdate{Name: new("moved")}); v.Epoch <= before.Epoch || v.ID != web.ID {
		t.Errorf("after the role has moved: %+v", v)
	}
	spm := mustSPM(t, p)
	if _, err := p.kill(spm.Host); err != nil {
		t.Fatal(err)
	}
	asker := p.client(p.other(spm.Host))
	if v := mustUpdate(t, asker, "moved", api.VolumeUpdate{Description: new("")}); v.Name != "moved" || v.Description != "" {
		t.Errorf("after a takeover: %+v", v)
	}
	again, err := asker.CreateVolume(deadline(t, 30*time.Second), req, "key-web")
	if err != nil || again.ID != web.ID || again.Name != "moved" {
		t.Errorf("the create repeated: %+v, %v", again, err)
	}
	if err := p.awaitUp(deadline(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	paceOfUpdates(t, p, "moved")
	mustList(t, asker, 2)
	judgeLUN(t, p)
}

func mustUpdate(t *testing.T, c *client.Client, ref string, req api.VolumeUpdate) api.VolumeUpdated {
	t.Helper()
	v, err := c.UpdateVolume(deadline(t, 60*time.Second), ref, req)
	if asError(err).Code == api.CodeOutcomeUnknown { // a host was killed that it was passed on to; nobody else changes the volume
		v, err = c.UpdateVolume(deadline(t, 60*time.Second), ref, req)
	}
	if err != nil {
		t.Fatalf("updating %s: %v", ref, err)
	}
	return v
}

// updateThrough changes the volume by its present name on one host, and reads it on every host.
func updateThrough(t *testing.T, p *devProcess, host int, id string) {
	t.Helper()
	old, _, err := p.client(host).Volume(deadline(t, 10*time.Second), id, client.Read{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	name, text := "web-"+string(rune('0'+host)), `for "the shop" é, through host `+string(rune('0'+host))
	addr := "http://" + strings.TrimPrefix(p.file().Hosts[host].HTTP, "http://")
	status, out, stderr := cli(t, "--address", addr, "-o", "json", "volume", "update", old.Name, "--name", name, "--description", text)
	var v api.VolumeUpdated
	if err := json.Unmarshal([]byte(out), &v); status != exitOK || err != nil {
		t.Fatalf("status %d, %s, %v", status, stderr, err)
	}
	if v.ID != id || v.Name != name || v.Description != text || !v.Mirrored || v.Index == 0 || v.Epoch == 0 {
		t.Errorf("answered %+v", v)
	}
	for i := range p.file().Hosts {
		got, _, err := p.client(i).Volume(deadline(t, 10*time.Second), name, client.Read{Consistent: true})
		if err != nil || got != v.Volume {
			t.Errorf("host %d: %+v, %v, want %+v", i, got, err, v.Volume)
		}
	}
}

// refusedUpdates asks for what must not happen.
func refusedUpdates(t *testing.T, p *devProcess, id string) {
	t.Helper()
	c := p.client(0)
	for name, tt := range map[string]struct {
		ref  string
		req  api.VolumeUpdate
		code string
	}{
		"a name that was given up":   {"web", api.VolumeUpdate{Description: new("x")}, api.CodeNotFound},
		"another volume's name":      {id, api.VolumeUpdate{Name: new("other-0")}, api.CodeNameTaken},
		"no volume":                  {"0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d", api.VolumeUpdate{Name: new("x")}, api.CodeNotFound},
		"nothing":                    {id, api.VolumeUpdate{}, api.CodeInvalid},
		"more than a sector holds":   {id, api.VolumeUpdate{Name: new(strings.Repeat("n", 128)), Description: new(strings.Repeat("d", 256))}, api.CodeInvalid},
		"a name that looks like ids": {id, api.VolumeUpdate{Name: new("0aec1d6e-6d2f-4f0a-8a5b-1f6f0e3f9b8d")}, api.CodeInvalid},
	} {
		_, err := c.UpdateVolume(deadline(t, 20*time.Second), tt.ref, tt.req)
		if wantCode(t, err, tt.code); asError(err).Code != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.DeleteVolume(deadline(t, 20*time.Second), "web")
	wantCode(t, err, api.CodeNotFound)
}

// paceOfUpdates logs what an update takes.
func paceOfUpdates(t *testing.T, p *devProcess, ref string) {
	t.Helper()
	var took []time.Duration
	for i := range 30 {
		begun := time.Now()
		mustUpdate(t, p.client(i%3), ref, api.VolumeUpdate{Description: new(time.Now().String())})
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("an update took %v, at most %v", took[len(took)/2], took[len(took)-1])
}
