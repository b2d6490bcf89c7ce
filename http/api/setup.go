package api

// Init makes this host the first of a new cluster.
type Init struct {
	Pool    string `json:"pool"`              // name of the pool
	Profile string `json:"profile,omitempty"` // compatible, fast or dev; default the agent's configuration
	// Devices become the pool's master domain in the same call.
	Devices []string `json:"devices"`
	Domain  string   `json:"domain,omitempty"` // name of the master domain; default "master"
	Force   string   `json:"force,omitempty"`  // see DomainCreate
	// TestPool allows faults to be injected into the pool, for ever.
	TestPool bool `json:"test_pool,omitempty"`
}

// Join makes this host a member of an existing cluster.
type Join struct {
	Address string `json:"address"` // cluster address (host:port) of any member
	Token   string `json:"token"`   // one-time join token
}

// Leave takes this host out of its cluster.
type Leave struct{}

// Member is the answer to Init, Join and Leave.
type Member struct {
	Host   string `json:"host"`
	HostID int    `json:"host_id"`
	Pool   string `json:"pool"`             // UUID
	Domain string `json:"domain,omitempty"` // UUID of the master domain, when there is one
	// Token is a join token for the next host; only in the answer to Init.
	Token string `json:"token,omitempty"`
	Left  bool   `json:"left,omitempty"` // the host has left
}
