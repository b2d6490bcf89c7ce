//go:build !jepsen

package plant

// On says that there are no mistakes in the program.
func On(string) bool { return false }
