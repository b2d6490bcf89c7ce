package leases

import (
	"testing"

	"github.com/holdfast-io/holdfast/leases/internal/plant"
)

// firstWrong goes through all operations and fates with a planted mistake until the checker finds something.
func firstWrong[O named](ops []O, check faultChecker[O], bugs plant.Bugs) func(t *testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		for _, op := range ops {
			for _, fate := range fates() {
				if _, err := everyWrite(t, op, fate, bugs, check); err != nil {
					t.Logf("%s: %v", op, err)
					return
				}
			}
		}
		t.Error("not caught")
	}
}

// TestFaults_catchPlantedBugs: each checker of the crash tests finds a mistake that is there.
func TestFaults_catchPlantedBugs(t *testing.T) {
	t.Parallel()
	records := append(joins(), renewal(), leave())
	for name, run := range map[string]func(t *testing.T){
		"another host takes over after 8N":            firstWrong(operations(), crashThenOther, plant.Bugs{TakeOverEarly: true}),
		"another host takes over at once":             firstWrong(exclusiveOperations(), crashThenOther, plant.Bugs{SilentIsGone: true}),
		"another host wipes a sharer":                 firstWrong(sharingOperations(), crashThenOther, plant.Bugs{WipeSharers: true}),
		"the same generation again":                   firstWrong(exclusiveOperations(), crashThenRejoin, plant.Bugs{ForgetGeneration: true}),
		"a late write is forgotten, then settled":     firstWrong(exclusiveOperations(), unknownThenSettle, plant.Bugs{IgnoreLateWrite: true}),
		"a late write is forgotten, then retried":     firstWrong(exclusiveOperations(), unknownThenRetry, plant.Bugs{IgnoreLateWrite: true}),
		"the leader is freed before we share":         firstWrong(sharingOperations(), unknownThenSettle, plant.Bugs{FreeBeforeShare: true}),
		"another's host id is taken after 8N":         firstWrong(records, crashThenJoin("b"), plant.Bugs{JoinEarly: true}),
		"a host id without a new generation":          firstWrong(records, crashThenJoin("a"), plant.Bugs{ForgetGeneration: true}),
		"no second look at the host id":               firstWrong(joins()[:1], unknownThenJoin, plant.Bugs{SkipJoinReread: true}),
		"a late renewal is forgotten":                 firstWrong([]hostOperation{renewal()}, unknownThenRenew, plant.Bugs{IgnoreLateWrite: true}),
		"left, and back as the same generation":       firstWrong([]hostOperation{leave()}, unknownThenComeBack, plant.Bugs{ForgetGeneration: true}),
		"taken before it is freed by another host":    firstWrong(proofs(), freeThenDie, plant.Bugs{SilentIsGone: true}),
		"taken before it is freed again":              firstWrong(proofs(), freeAgain, plant.Bugs{SilentIsGone: true}),
		"an old proof frees a host that came back":    firstWrong(proofs(), freeThenComeBack, plant.Bugs{FreeBlindly: true}),
		"the host id is free with a write on its way": firstWrong(exclusiveOperations(), unknownThenLeave, plant.Bugs{IgnoreLateWrite: true}),
	} {
		t.Run(name, run)
	}
}
