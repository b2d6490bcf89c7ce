package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// devState is what the dev supervisor keeps between starts, in DIR/supervisor.json: who the hosts are and where they
// listen. It is written before the first agent starts, so a second start finds the same pool.
type devState struct {
	Version int         `json:"version"`
	LUN     string      `json:"lun"`
	Profile string      `json:"profile"`
	OwnLUN  bool        `json:"own_lun"` // the LUN file was made here, not found
	Formed  bool        `json:"formed"`  // the pool has been complete once
	Chunk   int64       `json:"chunk,omitempty"`
	Hosts   []devMember `json:"hosts"`
}

// devMember is one host of a dev pool.
type devMember struct {
	Name    string `json:"name"`
	Cluster int    `json:"cluster_port"`
	Gossip  int    `json:"gossip_port"`
	HTTP    int    `json:"http_port"`
}

// devStateVersion is the version of supervisor.json that this program writes.
const devStateVersion = 1

// errDevHosts says that the directory holds more hosts than asked for.
var errDevHosts = errors.New("the directory holds a larger pool")

func devStatePath(dir string) string { return filepath.Join(dir, "supervisor.json") }

// loadDevState reads the state, or an empty one when the directory is new.
func loadDevState(dir string) (devState, error) {
	b, err := os.ReadFile(devStatePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return devState{Version: devStateVersion}, nil
	}
	if err != nil {
		return devState{}, fmt.Errorf("reading the supervisor's state: %w", err)
	}
	var st devState
	if err := json.Unmarshal(b, &st); err != nil {
		return devState{}, fmt.Errorf("reading %s: %w; restore it, or start on an empty directory", devStatePath(dir), err)
	}
	if st.Version != devStateVersion {
		return devState{}, fmt.Errorf("%s has version %d and this program knows %d: start the program that wrote it",
			devStatePath(dir), st.Version, devStateVersion)
	}
	return st, nil
}

// save writes the state atomically.
func (st devState) save(dir string) error { return writeJSONFile(devStatePath(dir), st) }

// settle fills in what a first start decides and what a later one may change: a larger pool gets more hosts.
func (st *devState) settle(o devOptions) error {
	if st.LUN == "" {
		st.LUN = filepath.Join(o.DataDir, "lun.img")
	}
	if st.Profile == "" {
		st.Profile = o.Profile
	}
	if o.Profile != "" && st.Profile != o.Profile {
		return fmt.Errorf("the pool in %s has profile %s, not %s: its host ids live by it; leave --profile out",
			o.DataDir, st.Profile, o.Profile)
	}
	if o.Chunk != 0 {
		st.Chunk = o.Chunk
	}
	if o.Hosts < len(st.Hosts) {
		return fmt.Errorf("%w: %d hosts, not %d; leave --hosts out, or take hosts out with `holdfast leave`",
			errDevHosts, len(st.Hosts), o.Hosts)
	}
	for len(st.Hosts) < o.Hosts {
		ports, err := pickPorts(3, st.ports())
		if err != nil {
			return err
		}
		name := fmt.Sprintf("h%d", len(st.Hosts)+1)
		st.Hosts = append(st.Hosts, devMember{Name: name, Cluster: ports[0], Gossip: ports[1], HTTP: ports[2]})
	}
	return nil
}

// ports lists every port that is taken by a host of the pool.
func (st *devState) ports() map[int]bool {
	taken := map[int]bool{}
	for _, h := range st.Hosts {
		taken[h.Cluster], taken[h.Gossip], taken[h.HTTP] = true, true, true
	}
	return taken
}

// writeJSONFile replaces a file by the JSON of v so that readers see the old or the new content, never a part.
func writeJSONFile(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return replaceFile(path, append(b, '\n'), 0o600)
}

// replaceFile writes a file beside path, makes it durable and moves it into place.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
