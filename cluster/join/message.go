package join

import "github.com/holdfast-io/holdfast/fsm"

// Path is where members answer join requests.
const Path = "/v1/join"

// HostInfo is what a host says about itself.
type HostInfo struct {
	Name     string            `json:"name"`
	Address  string            `json:"address"` // cluster address that the others shall dial
	Gossip   string            `json:"gossip"`
	HTTP     string            `json:"http"`
	Priority int               `json:"priority"`
	Protocol fsm.ProtocolRange `json:"protocol"`
}

// Peer is a member to talk to first.
type Peer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Gossip  string `json:"gossip"`
}

// request is a join request. CSR is DER.
type request struct {
	TokenID string   `json:"token_id"`
	CSR     []byte   `json:"csr"`
	MAC     []byte   `json:"mac"`
	Host    HostInfo `json:"host"`
}

// Grant is what a member gives to a host that it lets in.
type Grant struct {
	ClusterID   string `json:"cluster_id"`
	ClusterName string `json:"cluster_name"`
	HostID      int    `json:"host_id"`
	Cert        []byte `json:"cert"`    // PEM
	CACert      []byte `json:"ca_cert"` // PEM
	CAKey       []byte `json:"ca_key"`  // PEM
	GossipKey   []byte `json:"gossip_key"`
	Peers       []Peer `json:"peers"`
}
