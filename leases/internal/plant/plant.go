// Package plant names mistakes that tests plant in package leases, to see that the checkers catch them.
package plant

// Bugs are the mistakes. The zero value has none; nothing but a test may set one.
type Bugs struct {
	SkipPhase2Read   bool // commit without looking whether a higher ballot started
	TakeOverEarly    bool // take a silent owner's lease after 8N, without W
	TimeAfterWrite   bool // count the renewal from the end of the write
	IgnoreValue      bool // propose our own value although another was accepted
	SkipJoinReread   bool // believe that the host id is ours without the wait of 2N and the second look
	IgnoreLateWrite  bool // take a write that timed out for one that was not done
	ForgetGeneration bool // take a host id without raising its generation
	WipeSharers      bool // take sharers for dead that are not
	ForgetShared     bool // let the ballot of a conversion wipe our own SHARED
	FreeBeforeShare  bool // free the leader without saying SHARED first
	JoinEarly        bool // take another host's id after 8N, without W
	SilentIsGone     bool // take a silent owner's lease at once
	FreeBlindly      bool // free a host id on proof, whoever has it by now
}
