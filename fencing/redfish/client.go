package redfish

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/holdfast-io/holdfast/fencing"
)

const (
	maxBody = 1 << 20 // a system's resource has some 10 KiB
	root    = "/redfish/v1/"
)

// conversation is one call's requests, with their login.
type conversation struct {
	d       *Device
	token   string // of a session, if there is one
	session string // its path, to end it
}

// get reads a resource.
func (c *conversation) get(ctx context.Context, path string, out any) error {
	r, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if r.status != http.StatusOK {
		return fmt.Errorf("GET %s: %w", path, c.statusError(r))
	}
	if err := json.Unmarshal(r.body, out); err != nil {
		return fmt.Errorf("GET %s: reading the answer: %v: %w", path, err, fencing.ErrGarbage)
	}
	return nil
}

// post runs an action.
func (c *conversation) post(ctx context.Context, path string, in any) (reply, error) {
	r, err := c.do(ctx, http.MethodPost, path, in)
	if err != nil {
		return reply{}, err
	}
	if r.status/100 != 2 {
		return reply{}, fmt.Errorf("POST %s: %w", path, c.statusError(r))
	}
	return r, nil
}

// reply is an answer that was read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request to the configured host; path begins with /.
func (c *conversation) do(ctx context.Context, method, path string, in any) (reply, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return reply{}, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.d.base+path, body)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: %w: %w", method, path, fencing.ErrGarbage, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OData-Version", "4.0")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch {
	case c.token != "":
		req.Header.Set("X-Auth-Token", c.token)
	case c.d.config.Auth == AuthBasic:
		req.SetBasicAuth(c.d.config.User, c.d.config.Secret.Reveal())
	}
	resp, err := c.d.http.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: %w", method, path, sendError(ctx, err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: reading the answer: %w", method, path, sendError(ctx, err))
	}
	if len(b) > maxBody {
		return reply{}, fmt.Errorf("%s %s: the answer has more than %d bytes: %w", method, path, maxBody, fencing.ErrGarbage)
	}
	return reply{resp.StatusCode, resp.Header, b}, nil
}

// sendError names why there is no answer.
func sendError(ctx context.Context, err error) error {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return err
	case errors.As(err, &cert), errors.Is(err, errCertificate):
		return fmt.Errorf("the BMC's certificate is not trusted (set ca, or fingerprint): %w: %w", fencing.ErrForged, err)
	case errors.As(err, &record):
		return fmt.Errorf("no TLS there: %w: %w", fencing.ErrGarbage, err)
	}
	return fmt.Errorf("%w: %w", fencing.ErrUnreachable, err)
}

// statusError names an HTTP status that is no success, with the BMC's own words.
func (c *conversation) statusError(r reply) error {
	status, sentinel := r.status, fencing.ErrRefused
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		sentinel = fencing.ErrAuth
	case status/100 == 3:
		return fmt.Errorf("HTTP %d sends us elsewhere, where we do not go: %w", status, fencing.ErrGarbage)
	case status/100 < 2:
		sentinel = fencing.ErrGarbage
	}
	words := c.d.config.Secret.Redact(explain(r.body))
	return fmt.Errorf("HTTP %d %s: %s: %w", status, http.StatusText(status), fencing.Clean(words, 500), sentinel)
}

// explain finds the messages in an error document, or takes what there is.
func explain(body []byte) string {
	var doc struct {
		Error struct {
			Message  string `json:"message"`
			Extended []struct {
				Message string `json:"Message"`
			} `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Error.Message == "" && len(doc.Error.Extended) == 0 {
		return string(body)
	}
	words := []string{doc.Error.Message}
	for _, e := range doc.Error.Extended {
		words = append(words, e.Message)
	}
	return strings.Join(words, " ")
}

// localPath takes a link of the BMC's, which must stay on the BMC.
func localPath(link string) (string, error) {
	if !strings.HasPrefix(link, "/redfish/") || strings.ContainsAny(link, " \t\r\n?#\\") || strings.Contains(link, "..") {
		return "", fmt.Errorf("the link %q does not lead into /redfish/: %w", fencing.Clean(link, 100), fencing.ErrGarbage)
	}
	return link, nil
}
