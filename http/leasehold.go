package httpapi

import (
	"context"
	"net"
	"net/http"

	"github.com/holdfast-io/holdfast/http/api"
)

// maxLeaseProcesses bounds the processes of one lease.
const maxLeaseProcesses = 8

// sameMachine says whether a caller is on this machine, so that a process number means the same to both.
func sameMachine(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return true // a unix socket has no address
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// leaseFor decodes and checks who a lease is for.
func leaseFor(r *http.Request) (api.LeaseFor, error) {
	var req api.LeaseFor
	if err := decode(r, &req); err != nil {
		return req, err
	}
	if req.VM != "" {
		if err := checkName("vm", req.VM); err != nil {
			return req, err
		}
	}
	if len(req.Processes) > maxLeaseProcesses {
		return req, invalid("name fewer", "%d processes, at most %d are allowed", len(req.Processes), maxLeaseProcesses)
	}
	for _, p := range req.Processes {
		if p.PID <= 1 {
			return req, invalid("give the number of a running process", "there is no process %d to tie a lease to", p.PID)
		}
	}
	if len(req.Processes) > 0 && !sameMachine(r) {
		return req, invalid("run the command there, or give a vm", "a process can be named on its own host only")
	}
	return req, nil
}

// holdLease does what acquire and release have in common.
func holdLease[T any](b *Backend, r *http.Request, empty bool, do func(ctx context.Context, domain, id string, who api.LeaseFor) (T, error)) (reply, error) {
	if err := exactQuery(r); err != nil {
		return reply{}, err
	}
	id, err := leaseID(r)
	if err != nil {
		return reply{}, err
	}
	who, err := leaseFor(r)
	if err != nil {
		return reply{}, err
	}
	if !empty && who.VM == "" && len(who.Processes) == 0 {
		return reply{}, invalid("give a vm, or processes", "nobody to hold the lease for")
	}
	dom, err := leaseDomain(b, r)
	if err != nil {
		return reply{}, err
	}
	v, err := do(r.Context(), dom, id, who)
	if err != nil {
		return reply{}, err
	}
	return reply{body: v}, nil
}

func acquireLease(b *Backend, r *http.Request) (reply, error) {
	return holdLease(b, r, false, func(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseHeld, error) {
		return b.Leases.AcquireLease(ctx, domain, id, who)
	})
}

func releaseLease(b *Backend, r *http.Request) (reply, error) {
	return holdLease(b, r, true, func(ctx context.Context, domain, id string, who api.LeaseFor) (api.LeaseReleased, error) {
		return b.Leases.ReleaseLease(ctx, domain, id, who)
	})
}
