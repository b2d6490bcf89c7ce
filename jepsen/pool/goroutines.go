package pool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/jepsen/history"
)

// Goroutines asks a host's agent how many goroutines it has; a number that grows from run to run of the same work is a leak. The
// keeper has no way to be asked.
func (p *Pool) Goroutines(ctx context.Context, name string) (int, error) {
	h, err := p.host(name)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	n, err := h.goroutines(ctx)
	if err != nil {
		return 0, fmt.Errorf("counting the goroutines of %s: %w", name, err)
	}
	return n, nil
}

func (h *host) goroutines(ctx context.Context) (int, error) {
	m, err := h.metrics(ctx)
	if err != nil {
		return 0, err
	}
	n, ok := m["go_goroutines"]
	if !ok {
		return 0, errors.New("its metrics do not say go_goroutines")
	}
	return int(n), nil
}

// Growth asks a host's agent how its attached volumes have grown since it began.
func (p *Pool) Growth(ctx context.Context, name string) (history.Growth, error) {
	h, err := p.host(name)
	if err != nil {
		return history.Growth{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := h.metrics(ctx)
	if err != nil {
		return history.Growth{}, fmt.Errorf("asking how the volumes of %s have grown: %w", name, err)
	}
	seconds := func(name string) time.Duration { return time.Duration(m[name] * float64(time.Second)) }
	const grown, paused = "holdfast_attached_extension_seconds", "holdfast_attached_pause_seconds"
	if _, ok := m[paused+"_count"]; !ok {
		return history.Growth{}, fmt.Errorf("the metrics of %s do not say %s", name, paused)
	}
	return history.Growth{Grown: int(m[grown+"_count"]), Took: seconds(grown + "_sum"), Pauses: int(m[paused+"_count"]), Paused: seconds(paused + "_sum")}, nil
}

// metrics are those without labels.
func (h *host) metrics(ctx context.Context) (map[string]float64, error) {
	dialer := net.Dialer{Timeout: time.Second}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", h.conf.UnixSocket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://holdfast.sock/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	s := bufio.NewScanner(resp.Body)
	for s.Scan() {
		name, value, ok := strings.Cut(s.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			all[name] = v
		}
	}
	return all, s.Err()
}
