package domain

// Kinds of Recovery.
const (
	// RecoveredUnborn is a volume that another SPM had begun to create; it was removed.
	RecoveredUnborn = "half-made volume removed"
	// RecoveredDelete is a committed deletion that was finished.
	RecoveredDelete = "delete finished"
	// RecoveredWipe is a committed deletion with wipe that was finished.
	RecoveredWipe = "wipe and delete finished"
	// RecoveredSlotless is a volume whose metadata was never written; it was removed.
	RecoveredSlotless = "volume without metadata removed"
	// RecoveredParent is a parent marked internal for a child that was never born; it is a leaf again.
	RecoveredParent = "parent made leaf again"
	// LeftAlone is something suspicious that recovery did not dare to touch; Check tells more.
	LeftAlone = "left alone"
	// Deferred is a wipe that FinishDeletes has to do.
	Deferred = "wipe deferred"
)

// Recovery is one thing that BecomeWriter finished, rolled back or left alone.
type Recovery struct {
	Kind   string
	Volume string
	Detail string
}

// RecoveryReport lists what a former SPM had left. Empty after a clean stop.
type RecoveryReport struct {
	Actions []Recovery
}

// Changed tells whether anything on disk was changed.
func (r RecoveryReport) Changed() bool {
	for _, a := range r.Actions {
		if a.Kind != LeftAlone && a.Kind != Deferred {
			return true
		}
	}
	return false
}

func (r *RecoveryReport) add(kind, volume, detail string) {
	r.Actions = append(r.Actions, Recovery{Kind: kind, Volume: volume, Detail: detail})
}
