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
	dialer := net.Dialer{Timeout: time.Second}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", h.conf.UnixSocket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://holdfast.sock/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "go_goroutines "); ok {
			return strconv.Atoi(v)
		}
	}
	return 0, errors.New("its metrics do not say go_goroutines")
}
