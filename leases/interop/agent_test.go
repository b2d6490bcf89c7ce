package interop

func agentMain() error { return nil }
