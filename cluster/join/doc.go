// Package join lets a new host into a cluster: the cluster's CA, one-time tokens, and the exchange of a token for a
// certificate.
//
//	operator -> any member     make a token: id.secret.SHA-256 of the CA's certificate
//	joiner   -> any member     TLS, no client certificate; the joiner checks that the member's chain ends in the CA of the hash
//	joiner   -> member         certificate request, HMAC of it under the token's secret, name and addresses
//	member                     checks the HMAC, commits the token's use and the new host in one step, signs
//	member   -> joiner         certificate, CA certificate and key, gossip key, host id, the other members
//
// The secret never travels. Every member holds the CA's key, see cluster/DESIGN.md for what follows from that.
package join
