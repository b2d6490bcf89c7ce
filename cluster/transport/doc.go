// Package transport carries everything that hosts say to each other over one TLS 1.3 port: raft, calls of methods, and
// API requests that one host forwards to another. Gossip is the only other port.
//
// After the handshake the side that dialled writes one byte that says what the connection is for:
//
//	'R'  raft's own protocol, until the connection ends           needs a host's certificate
//	'H'  HTTP/1.1: POST /rpc/METHOD with JSON, forwarded API      needs a host's certificate
//	'J'  HTTP/1.1: one join request                               needs none; the token is the credential
//
// A host is who its certificate's common name says, if the cluster's CA signed it and its organisational unit is
// "host". Whether that host is still a member is asked of Config.Allow.
package transport
