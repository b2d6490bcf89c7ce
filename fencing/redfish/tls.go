package redfish

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/holdfast-io/holdfast/fencing"
)

// errCertificate: the certificate is not the one that was pinned.
var errCertificate = errors.New("the certificate is not the one whose fingerprint is configured")

// newClient makes an HTTP client that trusts what the configuration says and follows no redirects. Connections are not kept: a BMC
// is asked seldom, and one that restarts keeps none either.
func newClient(c Config) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case c.CA != "":
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("redfish: reading the certificate authorities: %w: %w", fencing.ErrConfig, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redfish: %s has no certificate in PEM: %w", c.CA, fencing.ErrConfig)
		}
	case c.Fingerprint != "":
		want, err := parseFingerprint(c.Fingerprint)
		if err != nil {
			return nil, err
		}
		conf.InsecureSkipVerify = true // the certificate itself is compared instead
		conf.VerifyConnection = pinned(want)
	case c.Insecure:
		conf.InsecureSkipVerify = true // asked for, and documented as what it is
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: 20 * time.Second,
			ResponseHeaderTimeout: time.Minute, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, Proxy: nil,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// pinned compares the certificate that the connection was made with.
func pinned(want []byte) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errCertificate
		}
		got := sha256.Sum256(s.PeerCertificates[0].Raw)
		if subtle.ConstantTimeCompare(got[:], want) != 1 {
			return fmt.Errorf("%w: it is %x", errCertificate, got)
		}
		return nil
	}
}
