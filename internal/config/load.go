package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load reads and validates a file.
func Load(path string) (Agent, error) {
	f, err := os.Open(path)
	if err != nil {
		return Agent{}, fmt.Errorf("reading the configuration: %w; holdfast agent --print-config prints one to start from", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Agent{}, fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	if len(b) > maxFile {
		return Agent{}, fmt.Errorf("reading the configuration %s: larger than %d bytes", path, maxFile)
	}
	c, err := Parse(b)
	if err != nil {
		return Agent{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse decodes a document over the defaults, fills in the host name and validates the result.
func Parse(b []byte) (Agent, error) {
	c := Default()
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Agent{}, err
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return Agent{}, errors.New("there is more than one YAML document in the file")
	}
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return Agent{}, fmt.Errorf("finding the host name: %w; set name", err)
		}
		c.Name = name
	}
	return c, c.Validate()
}
