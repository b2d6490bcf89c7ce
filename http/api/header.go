package api

// Headers of requests and answers.
const (
	// HeaderIndex is the Raft index the answer is at least as new as.
	HeaderIndex = "X-Holdfast-Index"
	// HeaderAge is how long ago, in milliseconds, the mirror was last known to be in touch with the leader.
	HeaderAge = "X-Holdfast-Age"
	// HeaderEpoch is the SPM epoch the answer was given under.
	HeaderEpoch = "X-Holdfast-Epoch"
	// HeaderGap is set on a list of events when events may be missing before it: the id of the oldest event that is kept.
	HeaderGap = "X-Holdfast-Gap"
	// HeaderLastEvent continues a stream of events after an id, in the name that browsers use.
	HeaderLastEvent = "Last-Event-ID"
	// HeaderHost is the host that did the work.
	HeaderHost = "X-Holdfast-Host"
	// HeaderForwarded names the host a request was passed on by; such a request is not passed on again.
	HeaderForwarded = "X-Holdfast-Forwarded"
	// HeaderRole is the role the passing host gave the caller; only believed from a member of the cluster.
	HeaderRole = "X-Holdfast-Role"
	// HeaderUser is the name of the caller, next to HeaderRole.
	HeaderUser = "X-Holdfast-User"
	// HeaderIdempotency makes a create safe to repeat: the same key gives the same volume.
	HeaderIdempotency = "Idempotency-Key"
	// HeaderRequestID names a request in logs and errors.
	HeaderRequestID = "X-Request-Id"
)
