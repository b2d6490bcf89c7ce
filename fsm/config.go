package fsm

// ConfigSet sets one key of the cluster's configuration; an empty value removes it.
type ConfigSet struct {
	base  `codec:"-"`
	Key   string `codec:"k"`
	Value string `codec:"v"`
}

func (*ConfigSet) kind() kind { return kindConfigSet }

func (c *ConfigSet) apply(t *tables, _ uint64) Outcome {
	const maxKey, maxValue = 256, 64 << 10
	if c.Key == "" || len(c.Key) > maxKey || len(c.Value) > maxValue {
		return refuse(CodeInvalid, "a configuration key has 1 to 256 bytes and its value at most 64 KiB")
	}
	if c.Value == "" {
		t.config.remove(c.Key)
		return Outcome{}
	}
	t.config.put(c.Key, c.Value)
	return Outcome{}
}
