package main

import (
	"fmt"
	"path/filepath"

	"github.com/holdfast-io/holdfast/internal/config"
)

// devAgentConfig is the configuration file of one host of a dev pool, with the documentation of every key in it.
func devAgentConfig(dir string, st devState, m devMember) ([]byte, error) {
	data := filepath.Join(dir, m.Name)
	c := config.Default()
	c.Name, c.DataDir, c.Profile, c.Dev = m.Name, data, st.Profile, true
	c.UnixSocket = filepath.Join(data, "api.sock")
	c.Cluster.Listen = loopback(m.Cluster)
	c.Gossip.Listen = loopback(m.Gossip)
	c.HTTP.Listen = loopback(m.HTTP)
	c.Devices = []string{st.LUN, filepath.Join(dir, "*.img")} // further LUNs to try things with
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
