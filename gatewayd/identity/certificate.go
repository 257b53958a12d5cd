package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// certificateName is the DNS name in a gateway's certificate. Clients pin the
// key, so it tells people what they look at and identifies nothing.
const certificateName = "sallyport-gateway"

// GatewayCertificate makes the self-signed TLS certificate of a gateway from
// its SSH key. The certificate has no end (RFC 5280 §4.1.2.5): the trust root
// says which key is a gateway's, and taking it out there is what ends it. A
// signature for TLS and one for SSHSIG can never stand in for each other, since
// both formats begin with bytes of their own.
func GatewayCertificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	if len(key) != ed25519.PrivateKeySize {
		return tls.Certificate{}, errors.New("gateway certificate: not an ed25519 private key")
	}
	public, _ := key.Public().(ed25519.PublicKey)
	serial := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:16]),
		Subject:               pkix.Name{CommonName: certificateName},
		DNSNames:              []string{certificateName},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("gateway certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("gateway certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// VerifyGateway returns what tls.Config.VerifyConnection needs to accept the
// gateway of the trust root and nobody else: its SSH key, or the TLS key that
// the root pins beside it. It fails when the pin cannot be read.
func VerifyGateway(pin reviews.Gateway) (func(tls.ConnectionState) error, error) {
	spki, err := pinnedSPKI(pin)
	if err != nil {
		return nil, fmt.Errorf("gateway %q of the trust root: %w", pin.Name, err)
	}
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return fmt.Errorf("gateway %q showed no certificate", pin.Name)
		}
		shown := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
		if !bytes.Equal(shown[:], spki) {
			return fmt.Errorf("this is not gateway %q: it shows the TLS key sha256:%x and the trust root pins sha256:%x; "+
				"if the gateway got a new key, the trust root must name it first", pin.Name, shown, spki)
		}
		return nil
	}, nil
}

// ClientTLS is the whole TLS configuration of a client that talks to the
// gateway of the trust root: the pinned key instead of names and authorities,
// TLS 1.3 only, since tokens are bound to its exporter.
func ClientTLS(pin reviews.Gateway) (*tls.Config, error) {
	verify, err := VerifyGateway(pin)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         certificateName,
		InsecureSkipVerify: true, // names and authorities; VerifyConnection checks the pinned key
		VerifyConnection:   verify,
	}, nil
}

// pinnedSPKI is the SHA-256 of the SubjectPublicKeyInfo that the gateway must show.
func pinnedSPKI(pin reviews.Gateway) ([]byte, error) {
	if pin.TLS != "" {
		digits, found := strings.CutPrefix(pin.TLS, "sha256:")
		digest, err := hex.DecodeString(digits)
		if !found || err != nil || len(digest) != sha256.Size {
			return nil, errors.New("tls is not sha256: and 64 hex digits")
		}
		return digest, nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(pin.Key))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	crypto, ok := public.(ssh.CryptoPublicKey)
	if !ok || public.Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("key: %s cannot be the key of a TLS certificate here, only ssh-ed25519; or pin one with tls", public.Type())
	}
	der, err := x509.MarshalPKIXPublicKey(crypto.CryptoPublicKey())
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	digest := sha256.Sum256(der)
	return digest[:], nil
}
