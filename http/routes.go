package httpapi

import (
	"net/http"
	"strings"
)

// endpoint does what a route is for.
type endpoint func(b *Backend, r *http.Request) (reply, error)

// route is one line of the API.
type route struct {
	method string
	path   string
	call   endpoint
	need   need
	// consistent: a GET that runs on the leader when ?consistent is given.
	consistent bool
	// open: no authentication.
	open bool
	// check looks at the request before it is passed on, so that nonsense does not travel.
	check func(r *http.Request) error
	// raw takes the place of call for answers that are not JSON.
	raw func(h *Handler, w http.ResponseWriter, r *http.Request)
	// stream: the answer goes on until the client, the agent, or the stream's own bound ends it.
	stream bool
}

// routes is the whole API; openapi.yaml describes the same list.
func routes() []route {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	return []route{
		{method: get, path: "/healthz", call: getHealth, open: true},
		{method: get, path: "/metrics", raw: getMetrics},
		{method: get, path: "/v1/openapi.yaml", raw: getOpenAPI},
		{method: get, path: "/v1/status", call: getStatus},
		{method: get, path: "/v1/hosts", call: listHosts, consistent: true},
		{method: get, path: "/v1/hosts/{name}", call: getHost, consistent: true},
		{method: post, path: "/v1/hosts/{name}/confirm-rebooted", call: confirmRebooted, need: needLeader},
		{method: patch, path: "/v1/hosts/{name}", call: setHost, need: needLeader},
		{method: post, path: "/v1/hosts/{name}/maintenance", call: maintainHost, need: needLeader},
		{method: post, path: "/v1/hosts/{name}/activate", call: activateHost, need: needLeader},
		{method: post, path: "/v1/hosts/{name}/remove", call: removeHost, need: needLeader},
		{method: get, path: "/v1/hosts/{name}/power", call: getPower, need: needLeader},
		{method: post, path: "/v1/hosts/{name}/power", call: orderPower, need: needLeader},
		{method: get, path: "/v1/hosts/{name}/power/health", call: getPowerHealth, need: needLeader},
		{method: get, path: "/v1/hosts/{name}/power/devices", call: listPowerDevices, consistent: true},
		{method: put, path: "/v1/hosts/{name}/power/devices/{device}", call: setPowerDevice},
		{method: del, path: "/v1/hosts/{name}/power/devices/{device}", call: removePowerDevice},
		{method: get, path: "/v1/fencing", call: getFencing, consistent: true},
		{method: patch, path: "/v1/fencing", call: setFencing},
		{method: post, path: "/v1/fencing/disarm", call: disarmFencing},
		{method: post, path: "/v1/fencing/arm", call: armFencing},
		{method: get, path: "/v1/fencing/history", call: getFenceHistory, consistent: true},
		{method: get, path: "/v1/powersave", call: getPowersave, consistent: true},
		{method: patch, path: "/v1/powersave", call: setPowersave},
		{method: get, path: "/v1/domains", call: listDomains, consistent: true},
		{method: post, path: "/v1/domains", call: createDomain, need: needSPM},
		{method: get, path: "/v1/domains/{id}", call: getDomain, consistent: true},
		{method: patch, path: "/v1/domains/{id}", call: setDomain, need: needSPM},
		{method: post, path: "/v1/domains/{id}/activate", call: activateDomain, need: needLeader},
		{method: post, path: "/v1/domains/{id}/deactivate", call: deactivateDomain, need: needLeader},
		{method: post, path: "/v1/domains/{id}/check", call: checkDomain},
		{method: post, path: "/v1/domains/{id}/extend", call: extendDomain, need: needSPM},
		{method: post, path: "/v1/domains/{id}/set-master", call: setMaster, need: needSPM},
		{method: post, path: "/v1/domains/{id}/reconstruct", call: reconstructMaster, need: needLeader},
		{method: get, path: "/v1/domains/{id}/leases", call: listLeases},
		{method: post, path: "/v1/domains/{id}/leases", call: createLease, need: needSPM, check: ensureKey},
		{method: post, path: "/v1/domains/{id}/leases/rebuild", call: rebuildLeases, need: needSPM, check: ensureKey},
		{method: get, path: "/v1/domains/{id}/leases/{lease}", call: getLease},
		{method: post, path: "/v1/domains/{id}/leases/{lease}/acquire", call: acquireLease, check: checkLeasePath},
		{method: post, path: "/v1/domains/{id}/leases/{lease}/release", call: releaseLease, check: checkLeasePath},
		{method: del, path: "/v1/domains/{id}/leases/{lease}", call: deleteLease, need: needSPM, check: checkLeasePath},
		{method: get, path: "/v1/images", call: listImages, consistent: true},
		{method: get, path: "/v1/images/{id}", call: getImage, consistent: true},
		{method: post, path: "/v1/images/{id}/snapshot", call: snapshotImage, need: needSPM, check: ensureKey},
		{method: get, path: "/v1/volumes", call: listVolumes, consistent: true},
		{method: post, path: "/v1/volumes", call: createVolume, need: needSPM, check: ensureKey},
		{method: get, path: "/v1/volumes/{id}", call: getVolume, consistent: true},
		{method: patch, path: "/v1/volumes/{id}", call: updateVolume, need: needSPM},
		{method: post, path: "/v1/volumes/{id}/extend", call: extendVolume},
		{method: del, path: "/v1/volumes/{id}", call: deleteVolume, need: needSPM},
		{method: post, path: "/v1/volumes/{id}/attach", call: attachVolume, need: needHost, check: checkAttach},
		{method: post, path: "/v1/volumes/{id}/snapshot", call: snapshotVolume, need: needHost, check: checkAttach},
		{method: post, path: "/v1/volumes/{id}/detach", call: detachVolume, need: needHost, check: checkHostQuery},
		{method: get, path: "/v1/attachments", raw: listAttachments, need: needHost, check: checkHostQuery},
		{method: get, path: "/v1/mailbox", call: getMailbox},
		{method: get, path: "/v1/spm", call: getSPM, consistent: true},
		{method: post, path: "/v1/spm/move", call: moveSPM, need: needLeader},
		{method: post, path: "/v1/spm/stop", call: stopSPM, need: needLeader},
		{method: post, path: "/v1/spm/start", call: startSPM, need: needLeader},
		{method: get, path: "/v1/events", call: listEvents, consistent: true},
		{method: get, path: "/v1/events/stream", raw: streamEvents, stream: true},
		{method: get, path: "/v1/operator/raft/peers", call: listPeers, consistent: true},
		{method: post, path: "/v1/operator/raft/transfer", call: transferRaft, need: needLeader},
		{method: get, path: "/v1/operator/tokens", call: listTokens, consistent: true},
		{method: post, path: "/v1/operator/tokens", call: createToken},
		{method: del, path: "/v1/operator/tokens/{id}", call: revokeToken},
		{method: post, path: "/v1/init", call: initCluster},
		{method: post, path: "/v1/join", call: joinCluster},
		{method: post, path: "/v1/leave", call: leaveCluster},
	}
}

// needs says where this very request has to run.
func (rt route) needs(r *http.Request) need {
	if rt.consistent && wantsConsistent(r) {
		return needLeader
	}
	return rt.need
}

func (rt route) precheck(r *http.Request) error {
	if rt.check == nil {
		return nil
	}
	return rt.check(r)
}

// matches compares a path with the route's, segment by segment.
func (rt route) matches(path string) bool {
	want, got := strings.Split(rt.path, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}
