// Package pool holds tests of the whole program on a real kernel: they run in the guest of `make vmtest`, beside real lvm2, and drive
// the holdfast program from outside, by its command line and the records on the LUN. They share no code with what they test.
package pool
