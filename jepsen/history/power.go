package history

import "time"

// PowerFile is what became of the hosts' power, and what their power switches were asked.
const PowerFile = "power.jsonl"

// The kinds of Power. The first two are what is true, whoever did it: between them the host has no process, and nothing of it reaches
// the LUN. The others are requests to the host's switch.
const (
	PowerIsOff     = "off"
	PowerIsOn      = "on"
	PowerOrderOff  = "order.off"
	PowerOrderOn   = "order.on"
	PowerAskStatus = "status"
)

// What may ail a switch.
const (
	SwitchDead   = "dead"   // it answers nobody
	SwitchLies   = "lies"   // it says that it did what it was told, and does nothing; its status is true
	SwitchDenies = "denies" // it does what it is told, and answers with an error
	SwitchSlow   = "slow"   // it does and answers everything seconds late
)

// Power is one change of a host's power, or one request to its switch.
type Power struct {
	Host string        `json:"host"`
	Kind string        `json:"kind"`
	At   time.Duration `json:"at"`             // of a request: it came
	Told time.Duration `json:"told,omitempty"` // of a request: it was answered
	Ails string        `json:"ails,omitempty"` // what ailed the switch
	Said string        `json:"said,omitempty"` // the answer: on, off, done, or an error
	// Intents are those of the host's power that the agents' mirrors had when an order came, of operations that were open or had ended
	// a moment ago. Silent are the agents that ran and did not say: one of them may have been the only one to know.
	Intents []Intent `json:"intents,omitempty"`
	Silent  []string `json:"silent,omitempty"`
}

// Intent is the committed intent of an order, the last one of its operation, as one agent's mirror has it.
type Intent struct {
	By      string `json:"by"` // the agent
	Op      string `json:"op"`
	Order   string `json:"order"` // PowerOrderOff or PowerOrderOn
	Term    uint64 `json:"term"`
	Leader  string `json:"leader"`
	Through string `json:"through"`
}
