//go:build race

package testutil

// Race says that the race detector is on. It makes virtual time several times slower, so simulations run a share of their seeds with it;
// `make simulate-short` runs all of them without.
const Race = true
