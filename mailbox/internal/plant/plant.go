// Package plant names mistakes that tests plant in package mailbox, to see that the simulation catches them.
package plant

// Bugs are the mistakes. The zero value has none; nothing but a test may set one.
type Bugs struct {
	// Of the SPM's side.
	ForgetWhenFull   bool // take a request for seen although the queue had no room for it
	SilentFailure    bool // do not answer when the handler fails
	BadPageIsEmpty   bool // take a torn page for an empty one, so that its requests appear again
	AnswerTheGone    bool // answer a request that is not there any more
	WriteInDoubt     bool // write although an earlier write may still land
	SkipPending      bool // take what was asked before the start for answered
	AckOnce          bool // do not look after an acknowledgement that got lost
	AnswerOnce       bool // do not look after an answer that got lost
	WrongPage        bool // answer in the next host's page
	TrustEvents      bool // never look at hosts that do not ring
	NoAnswerDeadline bool // wait for a stuck handler for ever

	// Of the host's side.
	ReuseAtOnce      bool // use the slot of a withdrawn request again at once
	MatchVolumeOnly  bool // take any answer for the same volume
	WriteOnce        bool // do not repeat a page that may have got lost
	NeverWithdraw    bool // wait for an answer for ever
	RefusedIsDone    bool // take size 0 for success
	ForgetOldLife    bool // use slots without a look at what an earlier life left in them
	HostWriteInDoubt bool // write the page although an earlier write may still land
}
