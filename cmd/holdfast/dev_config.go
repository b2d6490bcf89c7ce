package main

import (
	"fmt"
	"path/filepath"

	"github.com/holdfast-io/holdfast/internal/config"
)

// devSocket is where a further LUN of a dev pool may be served, devSocketLUN its address.
func devSocket(dir string) string { return filepath.Join(dir, "lun.nbd") }

func devSocketLUN(dir string) string { return "nbd+unix:///lun?socket=" + devSocket(dir) }

// devAgentConfig is the configuration file of one host of a dev pool, with the documentation of every key in it.
func devAgentConfig(dir string, st devState, m devMember) ([]byte, error) {
	data := filepath.Join(dir, m.Name)
	c := config.Default()
	c.Name, c.DataDir, c.Profile, c.Dev = m.Name, data, st.Profile, true
	c.UnixSocket = filepath.Join(data, "api.sock")
	c.Cluster.Listen = loopback(m.Cluster)
	c.Gossip.Listen = loopback(m.Gossip)
	c.HTTP.Listen = loopback(m.HTTP)
	c.Devices = []string{st.LUN, filepath.Join(dir, "*.img"), devSocketLUN(dir)} // further LUNs to try things with
	c.Fencing.Agent, c.Fencing.Socket = "process", powerSocket(dir)
	if st.Chunk != 0 {
		c.Growth.Chunk = st.Chunk
	}
	c.Watchdog = "none" // the supervisor ends hosts; a real watchdog would reset the whole machine
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuring host %s: %w", m.Name, err)
	}
	return config.Print(c)
}
