package mailbox

import (
	"testing"

	"github.com/holdfast-io/holdfast/mailbox/internal/plant"
)

// TestSim_catchesPlantedBugs: the judge can find fault. Mistakes that the traffic of a whole pool heals, or that need a rare
// meeting, are planted in the scenarios of lost_test.go and scenario_test.go.
func TestSim_catchesPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]plant.Bugs{
		"a full queue forgets requests":              {ForgetWhenFull: true},
		"a failure is not answered":                  {SilentFailure: true},
		"a torn page makes requests appear again":    {BadPageIsEmpty: true},
		"an answer to what was withdrawn":            {AnswerTheGone: true},
		"the SPM writes beside a write on its way":   {WriteInDoubt: true},
		"a new SPM passes over what is pending":      {SkipPending: true},
		"the answer is put into another host's page": {WrongPage: true},
		"a stuck handler is waited for":              {NoAnswerDeadline: true},
		"a refusal is taken for success":             {RefusedIsDone: true},
		"a host writes beside a write on its way":    {HostWriteInDoubt: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(25) {
				if s := runSim(t, seed, b); len(s.broken) > 0 {
					t.Logf("seed %d: %s", seed, s.broken[0])
					return
				}
			}
			t.Error("not caught")
		})
	}
}
