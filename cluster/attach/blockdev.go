package attach

import (
	"strings"

	"github.com/holdfast-io/holdfast/blockdev/domain"
)

// reconnectSeconds is how long QEMU waits for an export that has ended and is made again.
const reconnectSeconds = 30

// BlockDev is a chain, the top first, as arguments for QEMU's -blockdev, the base first: each names its backing node, since the
// names in the qcow2 headers mean nothing here. The last one is the disk.
func BlockDev(chain []Record) []map[string]any {
	var out []map[string]any
	for i := len(chain) - 1; i >= 0; i-- {
		r := chain[i]
		node := map[string]any{"node-name": nodeName(r.Volume), "driver": domain.FormatRaw, "file": protocolNode(r)}
		if r.ReadOnly {
			node["read-only"] = true
		}
		if r.Format == domain.FormatQcow2 {
			node["driver"] = domain.FormatQcow2
			node["backing"] = nil
			if i+1 < len(chain) {
				node["backing"] = nodeName(chain[i+1].Volume)
			}
		}
		out = append(out, node)
	}
	return out
}

// nodeName is a volume's name as QEMU takes it: at most 31 characters, beginning with a letter.
func nodeName(volume string) string { return "hf-" + strings.ReplaceAll(volume, "-", "")[:24] }

// deviceNode is the name of the node below it, on the volume's own bytes: QEMU is asked about that one how far they are written.
func deviceNode(volume string) string { return "hd-" + strings.ReplaceAll(volume, "-", "")[:24] }

// protocolNode is where the bytes of one volume are.
func protocolNode(r Record) map[string]any {
	node := map[string]any{"driver": "host_device", "filename": r.Where.Path}
	if r.Where.URI != "" {
		node = map[string]any{"driver": "nbd", "server": map[string]any{"type": "unix", "path": r.Where.Socket}, "export": r.Volume,
			"reconnect-delay": reconnectSeconds}
	}
	node["node-name"] = deviceNode(r.Volume)
	if r.ReadOnly {
		node["read-only"] = true
	}
	return node
}
