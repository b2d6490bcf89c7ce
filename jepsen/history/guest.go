package history

// GuestInput is what a guest asked for. Which volume is in Op.Key: its id. On which host it is attached is in Op.Host.
type GuestInput struct {
	Name   string  `json:"name,omitempty"`   // of an attach: the volume's
	Blocks []int64 `json:"blocks,omitempty"` // of a read
	Block  int64   `json:"block,omitempty"`  // of a write
	Seq    uint64  `json:"seq,omitempty"`    // of a write: grows with each write of a run, begins with 1
}

// GuestAnswer is what it was told, or read.
type GuestAnswer struct {
	Seen []BlockSeen `json:"seen,omitempty"`
}

// BlockSeen is one block as it was read: the numbers of the writes that its sectors have. All zeroes is number 0; one number stands
// for all sectors of the block.
type BlockSeen struct {
	Block int64    `json:"block"`
	Seqs  []uint64 `json:"seqs,omitempty"`
	Wrong string   `json:"wrong,omitempty"` // it has what nobody wrote there
}
