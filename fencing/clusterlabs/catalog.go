package clusterlabs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
	"github.com/holdfast-io/holdfast/fencing/program"
)

// metadataTimeout bounds the question for metadata. Agents are Python, and start slowly on a busy host.
const metadataTimeout = 30 * time.Second

// DefaultDirs are where distributions put fence agents.
func DefaultDirs() []string { return []string{"/usr/sbin", "/usr/bin"} }

// environment is what agents get besides PATH and LC_ALL: their own warnings would only hide what they say.
var environment = []string{"PYTHONWARNINGS=ignore"}

// Catalog finds agents in its folders, and remembers their metadata until the program changes.
type Catalog struct {
	dirs []string

	mu    sync.Mutex // guards known; not held while an agent runs
	known map[string]*entry
}

// entry is what is known of one program.
type entry struct {
	once chan struct{} // holds one token: whoever has it may read and write the rest
	at   stamp
	meta Metadata
}

// stamp changes when a program does.
type stamp struct {
	time time.Time
	size int64
}

// NewCatalog looks for agents in dirs, which must be absolute; the first one that has an agent wins.
func NewCatalog(dirs []string) (*Catalog, error) {
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			return nil, fmt.Errorf("folder of fence agents %q is not absolute: %w", d, fencing.ErrConfig)
		}
	}
	return &Catalog{dirs: dirs, known: map[string]*entry{}}, nil
}

// find returns the path of an agent. Its name was checked, but a check that is missed somewhere must not run anything else.
func (c *Catalog) find(agent string) (string, stamp, error) {
	if !agentName.MatchString(agent) {
		return "", stamp{}, fmt.Errorf("agent %q: %w", agent, fencing.ErrConfig)
	}
	for _, dir := range c.dirs {
		path := filepath.Join(dir, agent)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return "", stamp{}, fmt.Errorf("looking for %s: %w", path, err)
		}
		return path, stamp{info.ModTime(), info.Size()}, nil
	}
	return "", stamp{}, fmt.Errorf("no %s in %s: %w", agent, strings.Join(c.dirs, ", "), fencing.ErrNoProgram)
}

// Metadata asks an agent for its metadata, once for each version of the program.
func (c *Catalog) Metadata(ctx context.Context, agent string) (Metadata, error) {
	path, at, err := c.find(agent)
	if err != nil {
		return Metadata{}, err
	}
	e := c.entry(path)
	select {
	case <-e.once:
	case <-ctx.Done():
		return Metadata{}, fmt.Errorf("waiting for the metadata of %s: %w", agent, ctx.Err())
	}
	defer func() { e.once <- struct{}{} }()
	if e.at == at {
		return e.meta, nil
	}
	m, err := askMetadata(ctx, path)
	if err != nil {
		return Metadata{}, err
	}
	e.at, e.meta = at, m
	return m, nil
}

func (c *Catalog) entry(path string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[path]
	if e == nil {
		e = &entry{once: make(chan struct{}, 1)}
		e.once <- struct{}{}
		c.known[path] = e
	}
	return e
}

// askMetadata runs an agent for its metadata.
func askMetadata(ctx context.Context, path string) (Metadata, error) {
	inner, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	out, err := run(inner, path, "action=metadata\n", maxMetadata)
	if err != nil && inner.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", fencing.ErrTimeout, err)
	}
	if err != nil {
		return Metadata{}, fmt.Errorf("asking %s for its metadata: %w", path, err)
	}
	if out.Code != 0 {
		return Metadata{}, fmt.Errorf("asking %s for its metadata: status %d: %s: %w", path, out.Code, fencing.Clean(out.Stderr, 500), fencing.ErrGarbage)
	}
	m, err := parseMetadata(out.Stdout)
	if err != nil {
		return Metadata{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// run runs an agent with its input.
func run(ctx context.Context, path, stdin string, limit int) (program.Output, error) {
	out, err := program.Run(ctx, program.Spec{Path: path, Env: environment, Stdin: stdin, MaxOutput: limit})
	switch {
	case errors.Is(err, program.ErrNotFound):
		return out, fmt.Errorf("%w: %w", fencing.ErrNoProgram, err)
	case err != nil && ctx.Err() != nil:
		return out, fmt.Errorf("the agent was killed after %s: %w", out.Took.Round(time.Millisecond), err)
	}
	return out, err
}
