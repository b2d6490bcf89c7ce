// Package safe injects the faults that a pool's owner may let loose on a test pool: roles move, the agent of one host is killed
// or stopped. It measures how long volumes could not be made and nothing could be read. It is the only package of jepsen that is
// part of the program, and knows no more of a pool than its API tells everybody.
package safe
