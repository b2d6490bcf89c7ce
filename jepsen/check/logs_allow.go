package check

import "regexp"

// allowance is a line at error level that may be there, and why.
type allowance struct {
	line   *regexp.Regexp
	faults []string // kinds, or their beginnings, one of which must have been injected before; none: a healthy run has it too
	why    string
}

func line(pattern string) *regexp.Regexp { return regexp.MustCompile(pattern) }

var (
	// anyFault is for lines that any fault can cause that keeps a host from answering another.
	anyFault = []string{"kill.", "host.", "stop.", "restart.", "net.", "path.", "lun.", "disk.", "data.", "member.", "clock.", "raft.", "spm.", "power."}
	// noStorage are faults that keep a host from its leases.
	noStorage = []string{"path.", "lun.", "stop.", "kill.", "host.", "restart.", "clock.", "power."}
	// noDisk are faults of the disk under raft's log.
	noDisk = []string{"disk.", "data.", "host.", "kill.", "restart.", "power."}
)

// allow is the whole list. A new line here needs a reason that says why it is no defect of the program.
var allow = []allowance{
	{line(`msg="failed to (appendEntries to|heartbeat to)" .*part=raft`), nil,
		"raft says so for each try while a server that was just added does not listen yet, also in a healthy run"},
	{line(`msg="failed to (pipeline appendEntries|start pipeline replication to|make requestVote RPC|send snapshot to|install snapshot)".*part=raft`), anyFault,
		"a peer does not answer"},
	{line(`msg="(failed to (flush response|decode incoming command|accept connection)|peer sees incorrect leader)"?.*part=raft`), anyFault,
		"a connection ended in the middle"},
	{line(`msg="peer has newer term, stopping replication".*part=raft`), nil, "a former leader learns that it is one; clients move the leadership too"},
	{line(`msg="failed to (append to logs|commit logs|persist vote|take snapshot|get log|make snapshot directly|create snapshot to install|finalize snapshot|write metadata|reap snapshot|compact logs)".*part=raft`), noDisk,
		"the local disk is full, hangs, or lost what was on it"},
	{line(`msg="failed to get log".*part=raft`), []string{"stop.", "power."},
		"a leader that was stopped wakes up deposed, and sends on for a moment while its successor cuts the end off its log"},
	{line(`msg="(CRC checksum failed|failed to (get meta data to open|open|restore) snapshot)`), []string{"data."},
		"a damaged snapshot is passed over, where the log reaches back over it"},
	{line(`msg="raft's log is damaged; this host leaves the others to it and stops"`), []string{"data."}, "that is what the host must do"},
	{line(`msg="a write to raft's log does not come back`), append([]string{"stop."}, noDisk...), "that is what the leader must notice"},
	{line(`msg="(memberlist: |serf: )(Failed|failed|Error|Push/Pull|Conflict|Got ping for unexpected)`), anyFault, "gossip with a host that does not answer"},
	{line(`msg="(lockspace lost, all its leases are void|leases were lost with their lockspace|users of a lost lockspace are still there)`), noStorage,
		"the end of a lease that could not be renewed: said once, loudly"},
	{line(`msg="(the agent does not say that its I/O is back, ending it|not everything could be released, other hosts have to wait|a lease could not be freed|a lease was lost while it was converted)`), noStorage,
		"the keeper's way out when the LUN does not answer"},
	{line(`msg="the watchdog is not petted: the machine is reset unless that changes"`), noStorage, "a lease was not renewed in time, also by a clock that jumped"},
	{line(`msg="(storage cannot start again before the device calls have come back|leases are kept until this process has ended)`), noStorage,
		"I/O hangs, and the host says what it waits for"},
	{line(`msg="(this host's storage is down; starting it again|domain cannot be used on this host; trying again|this host starts without the pool's master)`), anyFault, "the host's LUN or keeper is gone"},
	{line(`msg="(the first I/O error of this export|an attached volume cannot be made usable again)`), noStorage,
		"an attached volume whose LUN or lease is gone: the guest sees errors, and somebody is told once"},
	{line(`msg="a duty of the leader failed, starting it again"`), anyFault, "leadership or the quorum ended in the middle of a duty"},
	{line(`msg="a notice of the keeper is lost: the agent does not listen"`), []string{"stop.", "kill.", "host.", "restart.", "power."}, "the agent is stopped or gone"},
	{line(`msg="cannot write down the members' addresses"`), []string{"disk."}, "the local disk is full or hangs"},
}
