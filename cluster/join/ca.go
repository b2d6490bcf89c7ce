package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/holdfast-io/holdfast/cluster/transport"
)

const (
	caLife = 20 * 365 * 24 * time.Hour
	// CertLife is how long certificates of hosts and clients are good for.
	CertLife = 365 * 24 * time.Hour
	// backdate lets a host whose clock is behind accept a certificate made just now.
	backdate = 24 * time.Hour
)

// ErrCA means that the CA's files do not hold a usable certificate and key.
var ErrCA = errors.New("cluster CA is not usable")

// CA is the cluster's certificate authority: ECDSA P-256, the same on every member.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes the CA of a new cluster.
func NewCA(clusterID string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Holdfast cluster " + clusterID},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the cluster's CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the cluster's CA: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// ParseCA reads a CA from PEM.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCA, err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCA, err)
	}
	if !cert.IsCA || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%w: the key does not belong to the certificate", ErrCA)
	}
	return &CA{cert: cert, key: key}, nil
}

// CertPEM is the CA's certificate.
func (c *CA) CertPEM() []byte { return encodePEM("CERTIFICATE", c.cert.Raw) }

// KeyPEM is the CA's private key.
func (c *CA) KeyPEM() ([]byte, error) { return KeyPEM(c.key) }

// Hash is the hex SHA-256 of the certificate, as tokens carry it.
func (c *CA) Hash() string { return certHash(c.cert) }

// HostCert signs a host's certificate for TLS in both directions. addresses are host:port or plain addresses, at which
// API clients will find the host.
func (c *CA) HostCert(pub *ecdsa.PublicKey, name string, addresses []string, now time.Time) ([]byte, error) {
	tmpl := leaf(name, transport.HostUnit, now)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.DNSNames = []string{name, transport.MemberName, "localhost"}
	tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, a := range addresses {
		addAltName(tmpl, a)
	}
	return c.sign(tmpl, pub)
}

// ClientCert signs a certificate for an API client; role is its organisational unit.
func (c *CA) ClientCert(pub *ecdsa.PublicKey, name, role string, now time.Time) ([]byte, error) {
	if role == transport.HostUnit {
		return nil, fmt.Errorf("client certificate for %q: role %q is for hosts only", name, role)
	}
	tmpl := leaf(name, role, now)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return c.sign(tmpl, pub)
}

func leaf(name, unit string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, OrganizationalUnit: []string{unit}},
		NotBefore: now.Add(-backdate),
		NotAfter:  now.Add(CertLife),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func addAltName(tmpl *x509.Certificate, address string) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	switch {
	case host == "", ip != nil && ip.IsUnspecified():
	case ip != nil:
		tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
	default:
		tmpl.DNSNames = append(tmpl.DNSNames, host)
	}
}

func (c *CA) sign(tmpl *x509.Certificate, pub *ecdsa.PublicKey) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", tmpl.Subject.CommonName, err)
	}
	return encodePEM("CERTIFICATE", der), nil
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return n, nil
}

func certHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// NewKey makes a private key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// KeyPEM encodes a private key.
func KeyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return encodePEM("PRIVATE KEY", der), nil
}

// ParseKey reads a private key from PEM.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block with a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("private key: not ECDSA P-256")
	}
	return key, nil
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM block with a certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// KeyHash is the hex SHA-256 of a public key, by which a retry of the same host is known.
func KeyHash(pub *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
