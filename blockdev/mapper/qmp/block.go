package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Names of events.
const (
	EventWriteThreshold = "BLOCK_WRITE_THRESHOLD"
	EventIOError        = "BLOCK_IO_ERROR"
)

// nodeStats is what query-blockstats says of a node.
type nodeStats struct {
	Node string `json:"node-name"`
	// Below is the node that this one is a view of: "parent" in QEMU's words. A backing node is none.
	Below *struct {
		Node string `json:"node-name"`
	} `json:"parent"`
	Stats struct {
		Highest uint64 `json:"wr_highest_offset"`
	} `json:"stats"`
}

// Highest is the end of the highest write to a block node since QEMU opened it.
func (c *Conn) Highest(ctx context.Context, node string) (int64, error) {
	all, err := c.stats(ctx)
	if err != nil {
		return 0, err
	}
	return highestOf(all, node)
}

func (c *Conn) stats(ctx context.Context) (all []nodeStats, err error) {
	err = c.Execute(ctx, "query-blockstats", map[string]any{"query-nodes": true}, &all)
	return all, err
}

// maxAbove bounds the nodes between a volume and the guest's disk: a format, filters.
const maxAbove = 16

// aboveOf finds the nodes that are views of a node, and of those in turn.
func aboveOf(all []nodeStats, node string) []string {
	var out []string
	for below := []string{node}; len(below) > 0 && len(out) < maxAbove; below = below[1:] {
		for _, n := range all {
			if n.Below != nil && n.Below.Node == below[0] && n.Node != "" && n.Node != node && !slices.Contains(out, n.Node) {
				out, below = append(out, n.Node), append(below, n.Node)
			}
		}
	}
	return out
}

func highestOf(all []nodeStats, node string) (int64, error) {
	for _, n := range all {
		if n.Node == node {
			if n.Stats.Highest > math.MaxInt64 {
				return 0, fmt.Errorf("%w: highest offset %d of node %s", ErrProtocol, n.Stats.Highest, node)
			}
			return int64(n.Stats.Highest), nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrNoNode, node)
}

// Top is the highest view of a node: the format above a device, or the filter above that. It is the node itself when there is none.
func (c *Conn) Top(ctx context.Context, node string) (string, error) {
	all, err := c.stats(ctx)
	if err != nil {
		return "", err
	}
	if _, err := highestOf(all, node); err != nil {
		return "", err
	}
	if above := aboveOf(all, node); len(above) > 0 {
		return above[len(above)-1], nil
	}
	return node, nil
}

// SetWriteThreshold asks for one EventWriteThreshold when a write to the node ends behind offset. After the event, set
// it again. 0 takes the wish back.
func (c *Conn) SetWriteThreshold(ctx context.Context, node string, offset int64) error {
	return c.Execute(ctx, "block-set-write-threshold", map[string]any{"node-name": node, "write-threshold": offset}, nil)
}

// threshold is the data of EventWriteThreshold.
type threshold struct {
	Node      string `json:"node-name"`
	Exceeded  uint64 `json:"amount-exceeded"`
	Threshold uint64 `json:"write-threshold"`
}

// end is where the write ended.
func (t *threshold) end() (int64, bool) {
	if t.Threshold > math.MaxInt64 || t.Exceeded > math.MaxInt64-t.Threshold {
		return 0, false
	}
	return int64(t.Threshold + t.Exceeded), true
}

// ioError is the data of EventIOError. Node is that of the guest's disk, which lies above the volume's own node.
type ioError struct {
	Device  string `json:"device"`
	Node    string `json:"node-name"`
	Action  string `json:"action"` // report, ignore or stop
	NoSpace bool   `json:"nospace"`
	Reason  string `json:"reason"`
}

// decodeEvent reads the data of an event.
func decodeEvent[T any](e Event) (v T, err error) {
	if err = json.Unmarshal(e.Data, &v); err != nil {
		err = fmt.Errorf("%w: event %s: %w", ErrProtocol, e.Name, err)
	}
	return v, err
}

// Node is a block node.
type Node struct {
	Name     string `json:"node-name"`
	Driver   string `json:"drv"`
	File     string `json:"file"`
	ReadOnly bool   `json:"ro"`
	// Layers is how many backing nodes are below it.
	Layers int `json:"backing_file_depth"`
	// WriteThreshold is the one that is set; 0 for none.
	WriteThreshold int64 `json:"write_threshold"`
}

// Nodes lists all block nodes that have names.
func (c *Conn) Nodes(ctx context.Context) ([]Node, error) {
	var out []Node
	err := c.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &out)
	return out, err
}

// guestDisk is what query-block says of a disk of the guest.
type guestDisk struct {
	IOStatus string `json:"io-status"`
	Inserted *struct {
		Node string `json:"node-name"`
	} `json:"inserted"`
}

// NoSpace tells whether the guest's disk on top of one of these nodes has run out of space and waits. A QEMU without a
// guest has no disks.
func (c *Conn) NoSpace(ctx context.Context, nodes ...string) (bool, error) {
	var all []guestDisk
	if err := c.Execute(ctx, "query-block", nil, &all); err != nil {
		return false, err
	}
	for _, d := range all {
		if d.Inserted == nil || d.IOStatus != "nospace" {
			continue
		}
		for _, n := range nodes {
			if d.Inserted.Node == n {
				return true, nil
			}
		}
	}
	return false, nil
}

// Cont lets a guest go on that QEMU has paused for an I/O error, and tells whether there was one. A guest that is paused for another reason is not touched:
// whoever paused it has their own.
func (c *Conn) Cont(ctx context.Context) (bool, error) {
	var st struct {
		Status string `json:"status"`
	}
	err := c.Execute(ctx, "query-status", nil, &st)
	if notFound(err) || err == nil && st.Status != "io-error" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, c.Execute(ctx, "cont", nil, nil)
}

// Add opens a block node with these options, as blockdev-add takes them.
func (c *Conn) Add(ctx context.Context, options any) error {
	return c.Execute(ctx, "blockdev-add", options, nil)
}

// Del closes a block node that nothing uses. One that is not there is no error.
func (c *Conn) Del(ctx context.Context, node string) error {
	err := c.Execute(ctx, "blockdev-del", map[string]any{"node-name": node}, nil)
	var e *Error
	if errors.As(err, &e) {
		if nodes, nerr := c.Nodes(ctx); nerr == nil && !hasNode(nodes, node) {
			return nil
		}
	}
	return err
}

func hasNode(nodes []Node, name string) bool {
	for _, n := range nodes {
		if n.Name == name {
			return true
		}
	}
	return false
}

// Snapshot puts overlay, a node that was added with "backing": null, on top of node: from here on the guest writes to the
// overlay, and reads from node what is not there.
func (c *Conn) Snapshot(ctx context.Context, node, overlay string) error {
	return c.Execute(ctx, "blockdev-snapshot", map[string]any{"node": node, "overlay": overlay}, nil)
}
