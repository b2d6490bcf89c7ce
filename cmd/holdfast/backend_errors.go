package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-io/holdfast/blockdev"
	"github.com/holdfast-io/holdfast/blockdev/domain"
	"github.com/holdfast-io/holdfast/blockdev/lvm2"
	"github.com/holdfast-io/holdfast/cluster"
	"github.com/holdfast-io/holdfast/cluster/host"
	"github.com/holdfast-io/holdfast/cluster/join"
	"github.com/holdfast-io/holdfast/cluster/manager"
	"github.com/holdfast-io/holdfast/cluster/spm"
	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/leases"
	"github.com/holdfast-io/holdfast/leases/keeper"
	"github.com/holdfast-io/holdfast/leases/watchdog"
	"github.com/holdfast-io/holdfast/leases/xlease"
)

// errorRule says which code an error of the packages below gets, and what to do next.
type errorRule struct {
	target error
	code   string
	next   string
}

// errorRules is looked through in order: what may have happened comes before what surely did not.
var errorRules = []errorRule{
	{blockdev.ErrOutcomeUnknown, api.CodeOutcomeUnknown, "look whether it happened, or send the same request with the same Idempotency-Key again"},
	{cluster.ErrOutcomeUnknown, api.CodeOutcomeUnknown, "look whether it happened before trying again"},
	{domain.ErrVolumeHeld, api.CodeBusy, "end what uses the volume there, or wait until the holder is proven dead, and try again"},
	{spm.ErrNotSPM, api.CodeNotSPM, "send the request to the holder, or wait for the election"},
	{spm.ErrMasterUnconfirmed, api.CodeUnavailable, "connect the SPM's host to the hosts that have a leader again (holdfast status), or move the role to one that is (holdfast spm move); its other domains are served"},
	{spm.ErrDomainDown, api.CodeUnavailable, "holdfast events shows why; other domains are served, this one is tried again"},
	{spm.ErrNoDomain, api.CodeNotFound, "holdfast domain list shows what there is"},
	{blockdev.ErrLeaseLost, api.CodeLeaseLost, "wait for the election and try again"},
	{domain.ErrMember, api.CodeConflict, "holdfast domain show lists the LUNs of the domain"},
	{domain.ErrSilentLUN, api.CodeUnavailable, "check the path to the LUN and try again; the domain goes on without it"},
	{host.ErrLUNUnseen, api.CodeDevice, "show the LUN to these hosts, under a path that their configuration allows (devices), and try again"},
	{host.ErrLUNBusy, api.CodeBusy, "wait until the LUN has answered, and try again"},
	{spm.ErrInvalid, api.CodeInvalid, "correct the request; nothing was done"},
	{domain.ErrInvalid, api.CodeInvalid, "correct the request; nothing was done"},
	{domain.ErrNoVolumeLease, api.CodeCorrupt, "a volume without a lease cannot be kept to one host; holdfast domain check lists what is damaged"},
	{domain.ErrNameTaken, api.CodeNameTaken, "choose another name"},
	{domain.ErrHasChildren, api.CodeConflict, "delete the volumes that are based on it first"},
	{domain.ErrConflict, api.CodeConflict, "use a new Idempotency-Key for another request"},
	{domain.ErrBusy, api.CodeBusy, "wait for the deletion to end"},
	{domain.ErrNotFound, api.CodeNotFound, "holdfast volume list shows what there is"},
	{domain.ErrNoSpace, api.CodeOutOfSpace, "delete volumes or add space, then ask again"},
	{domain.ErrFull, api.CodeNoSpace, "delete volumes or add space"},
	{domain.ErrStalled, api.CodeUnavailable, "check the path to the LUN and try again"},
	{domain.ErrTooSmall, api.CodeDevice, "use larger LUNs"},
	{domain.ErrInUse, api.CodeForeignSignature, "use another device, or force with the name that was given"},
	{domain.ErrUnready, api.CodeForeignSignature, "force with the name that was given to create it again"},
	{domain.ErrSealBroken, api.CodeCorrupt, "holdfast domain check lists what is readable and the repair"},
	{domain.ErrBadKeys, api.CodeCorrupt, "holdfast domain check lists what is readable and the repair"},
	{lvm2.ErrCorrupt, api.CodeCorrupt, "holdfast domain check lists what is readable and the repair"},
	{lvm2.ErrSplitBrain, api.CodeCorrupt, "stop all hosts and compare the metadata areas before anything is written"},
	{xlease.ErrID, api.CodeInvalid, "give a UUID; VDSM takes nothing else"},
	{xlease.ErrNotFound, api.CodeNotFound, "holdfast lease list shows what there is"},
	{xlease.ErrFull, api.CodeNoSpace, "delete leases that are not needed"},
	{xlease.ErrInUse, api.CodeBusy, "release the lease where it is held"},
	{xlease.ErrUpdating, api.CodeCorrupt, "holdfast lease rebuild"},
	{xlease.ErrDamaged, api.CodeCorrupt, "holdfast domain check lists what is damaged; holdfast lease rebuild --force writes it anew"},
	{xlease.ErrIndex, api.CodeCorrupt, "holdfast lease rebuild"},
	{host.ErrNoStorage, api.CodeUnavailable, "ask another host, or wait: the host brings its storage up by itself"},
	{host.ErrNotOpen, api.CodeUnavailable, "ask another host, or see holdfast status for what this host waits for"},
	{blockdev.ErrReadOnly, api.CodeDevice, "make the LUN writable for this host"},
	{blockdev.ErrGone, api.CodeDevice, "bring the LUN back and try again"},
	{blockdev.ErrNotSupported, api.CodeDevice, "use a block device, a regular file or an nbd:// address"},
	{blockdev.ErrPending, api.CodeDevice, "wait until the LUN answers again, or ask another host meanwhile"},
	{blockdev.ErrTimeout, api.CodeTimeout, "check the path to the LUN and try again"},
	{host.ErrOwnLUN, api.CodeConflict, "use another LUN; nothing can be forced here"},
	{manager.ErrMasterReadable, api.CodeConflict, "holdfast domain set-master ID without --reconstruct"},
	{manager.ErrNewMasterUnread, api.CodeConflict, "show the LUNs of the domain to a host that is up; holdfast domain check lists what is wrong"},
	{manager.ErrMasterNotProven, api.CodeConflict, "wait or help as it says for each host, then ask again; --force --dead HOST takes your word for one that does not answer, and if it still writes, data is lost"},
	{spm.ErrMasterMoved, api.CodeUnavailable, "try again in a moment: the role is taken under the new master"},
	{spm.ErrNotMaster, api.CodeConflict, "holdfast domain list shows the master; holdfast domain set-master changes it"},
	{spm.ErrMasterUnclear, api.CodeUnavailable, "make the domain readable that it names, or give it up with holdfast domain set-master --reconstruct"},
	{spm.ErrRetired, api.CodeUnavailable, "wait until the master that is given up has a successor, or the word is over"},
	{host.ErrLeaving, api.CodeConflict, "use another host, or holdfast host activate takes the maintenance back"},
	{manager.ErrHasRole, api.CodeConflict, "holdfast spm move, and then again"},
	{manager.ErrNotLeading, api.CodeNotLeader, "try again"},
	{manager.ErrHostAnswers, api.CodeConflict, "to take a host out of use stop its agent, to take it out of the cluster run holdfast leave on it"},
	{manager.ErrCameBack, api.CodeConflict, "see holdfast host list; to take it out of the cluster run holdfast leave on it"},
	{manager.ErrNoPool, api.CodeNoPool, "holdfast init makes the pool"},
	{manager.ErrSuperseded, api.CodeConflict, "see holdfast spm status, and ask again if need be"},
	{manager.ErrNotReached, api.CodeTimeout, "see holdfast spm status for what is awaited; a host that reaches fewer domains than the SPM does not get the role"},
	{join.ErrTokenMalformed, api.CodeTokenInvalid, "give the whole token as it was printed"},
	{join.ErrWrongCluster, api.CodeTokenInvalid, "use an address and a token of the same cluster"},
	{manager.ErrHostNotUp, api.CodeConflict, "holdfast host list shows which hosts are up"},
	{spm.ErrBusy, api.CodeBusy, "try again in a moment"},
	{spm.ErrNotCommitted, api.CodeUnavailable, "send the request again"},
	{fsm.ErrNotFound, api.CodeNotFound, ""},
	{fsm.ErrInvalid, api.CodeInvalid, "correct the request; nothing was done"},
	{fsm.ErrExists, api.CodeConflict, ""},
	{fsm.ErrTokenUnknown, api.CodeTokenInvalid, "ask for a new token: holdfast operator token create"},
	{fsm.ErrTokenUsed, api.CodeTokenInvalid, "ask for a new token: holdfast operator token create"},
	{fsm.ErrTokenExpired, api.CodeTokenInvalid, "ask for a new token: holdfast operator token create"},
	{fsm.ErrProofRequired, api.CodeConflict, ""},
	{cluster.ErrNotMember, api.CodeNotMember, "holdfast init on the first host, holdfast join on every other"},
	{cluster.ErrAlreadyMember, api.CodeAlreadyMember, "holdfast leave first, if the host should belong to another cluster"},
	{cluster.ErrNoHeir, api.CodeUnavailable, "see holdfast operator raft list-peers; the cluster has its leader"},
	{watchdog.ErrExpired, api.CodeUnavailable, "this host joins again by itself when it reaches its LUN; ask another host or wait"},
	{cluster.ErrLastHost, api.CodeConflict, "stop the agent; the pool stays on its LUNs"},
	{cluster.ErrNoLeader, api.CodeNoLeader, "wait for the election and try again"},
	{cluster.ErrNotLeader, api.CodeNotLeader, "try again"},
	{cluster.ErrUnreachable, api.CodeUnavailable, "check the address and the network between the hosts"},
	{cluster.ErrVersion, api.CodeUnavailable, "upgrade every host"},
	{cluster.ErrClosed, api.CodeUnavailable, "try again in a moment"},
	{cluster.ErrLogDamaged, api.CodeUnavailable, "look after the local disk of this host's data directory"},
	{cluster.ErrHung, api.CodeUnavailable, "look after the local disk of this host's data directory"},
	{lvm2.ErrMissingPV, api.CodeDevice, "show the LUN to this host, under a path that its configuration allows (devices)"},
	{domain.ErrNotDomain, api.CodeCorrupt, "compare the LUN with a backup of the LVM metadata; write nothing to it before"},
	{lvm2.ErrNotPV, api.CodeCorrupt, "compare the LUN with a backup of the LVM metadata; write nothing to it before"},
	{leases.ErrBusy, api.CodeBusy, "try again in a moment"},
	{leases.ErrHeld, api.CodeBusy, "release the lease where it is held, or wait"},
	{leases.ErrChanged, api.CodeBusy, "somebody else was faster; try again"},
	{leases.ErrLost, api.CodeUnavailable, "this host joins again by itself when it reaches its LUN; ask another host or wait"},
	{keeper.ErrGone, api.CodeUnavailable, "this host starts a new keeper by itself; ask another host or wait"},
	{keeper.ErrNotJoined, api.CodeUnavailable, "this host joins by itself when it reaches its LUN; ask another host or wait"},
	{keeper.ErrProcess, api.CodeConflict, "name a process that runs"},
	{leases.ErrNoLease, api.CodeCorrupt, "holdfast domain check lists what is damaged"},
	{leases.ErrCorrupt, api.CodeCorrupt, "holdfast domain check lists what is damaged"},
	{leases.ErrVersion, api.CodeCorrupt, "holdfast domain check lists what is damaged"},
	{unix.EIO, api.CodeDevice, "check the path to the LUN, and ask another host meanwhile"},
	{context.DeadlineExceeded, api.CodeTimeout, "try again"},
}

// apiError gives an error of the packages below its code. An error that has one already keeps it.
func apiError(err error) error {
	var done *api.Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	var live *manager.StorageLiveError
	if errors.As(err, &live) {
		return dressed(err, errorRule{code: api.CodeConflict,
			next: "see whether the host really is down; storage will say so when it has been silent for long enough. --force takes your word against storage: if the host still writes, data is lost"})
	}
	var quiet *manager.QuietError
	if errors.As(err, &quiet) {
		return dressed(err, errorRule{code: api.CodeConflict, next: "wait, or use --force"})
	}
	for _, r := range slices.Concat(attachRules, domainErrors, powerRules, errorRules) {
		if errors.Is(err, r.target) {
			return dressed(err, r)
		}
	}
	return err
}

// dressed fills in what particular errors know.
func dressed(err error, r errorRule) *api.Error {
	e := &api.Error{Code: r.code, Message: err.Error(), NextStep: r.next}
	var live *manager.StorageLiveError
	if errors.As(err, &live) {
		e.RetryAfter = live.Left
	}
	var unproven *manager.UnprovenError
	if errors.As(err, &unproven) {
		e.RetryAfter = unproven.In()
	}
	var held *domain.VolumeHeldError
	if errors.As(err, &held) {
		e.Holder, e.RetryAfter = held.Holder, held.RetryAfter
	}
	var quiet *manager.QuietError
	if errors.As(err, &quiet) {
		e.RetryAfter = quiet.Left
	}
	var notSPM *spm.NotSPMError
	if errors.As(err, &notSPM) {
		e.Holder, e.Epoch, e.RetryAfter = notSPM.Holder, notSPM.Epoch, time.Second
	}
	return e
}
