package identity_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestAnotherKeyIsNotTheGateway(t *testing.T) {
	w := newWorld(t)
	impostor, _ := newKey(t)
	certificate, err := identity.GatewayCertificate(impostor)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = tryHandshake(t, pinOf(t, w.gateway), &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err == nil || !strings.Contains(err.Error(), `this is not gateway "gw1"`) {
		t.Fatalf("handshake with an impostor: %v", err)
	}
}

// A copied certificate without its key cannot answer the handshake.
func TestTheGatewaysCertificateWithAnotherKey(t *testing.T) {
	w := newWorld(t)
	certificate, err := identity.GatewayCertificate(w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	certificate.PrivateKey, _ = newKey(t)
	if _, _, err = tryHandshake(t, pinOf(t, w.gateway), &tls.Config{Certificates: []tls.Certificate{certificate}}); err == nil {
		t.Fatal("accepted a certificate whose key the server does not hold")
	}
}

func TestAnOldTLSVersionIsRefused(t *testing.T) {
	w := newWorld(t)
	certificate, err := identity.GatewayCertificate(w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12}
	if _, _, err = tryHandshake(t, pinOf(t, w.gateway), config); err == nil {
		t.Fatal("spoke TLS 1.2")
	}
}

func TestThePinnedTLSKeyReplacesTheSSHKey(t *testing.T) {
	w := newWorld(t)
	own, err := identity.GatewayCertificate(w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	other := ownCertificate(t)
	pin := pinOf(t, w.gateway)
	digest := sha256.Sum256(other.Leaf.RawSubjectPublicKeyInfo)
	pin.TLS = "sha256:" + hex.EncodeToString(digest[:])

	handshake(t, pin, &tls.Config{Certificates: []tls.Certificate{other}})
	if _, _, err := tryHandshake(t, pin, &tls.Config{Certificates: []tls.Certificate{own}}); err == nil {
		t.Fatal("the SSH key was accepted although another TLS key is pinned")
	}
}

func TestUnreadablePins(t *testing.T) {
	w := newWorld(t)
	good := pinOf(t, w.gateway).Key
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, pin := range map[string]reviews.Gateway{
		"nothing":       {Name: "gw1"},
		"garbage":       {Name: "gw1", Key: "ssh-ed25519 AAAA"},
		"other type":    {Name: "gw1", Key: publicKey(signer).Key},
		"tls garbage":   {Name: "gw1", Key: good, TLS: "sha256:zz"},
		"tls no prefix": {Name: "gw1", Key: good, TLS: strings.Repeat("ab", 32)},
		"tls too short": {Name: "gw1", Key: good, TLS: "sha256:abab"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := identity.ClientTLS(pin); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

func TestGatewayCertificateIsOneThatClientsRead(t *testing.T) {
	w := newWorld(t)
	certificate, err := identity.GatewayCertificate(w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	if _, err := certificate.Leaf.Verify(x509.VerifyOptions{DNSName: "sallyport-gateway", Roots: roots, CurrentTime: now}); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.GatewayCertificate(ed25519.PrivateKey("short")); err == nil {
		t.Fatal("accepted a short key")
	}
}

// ownCertificate is a certificate of the organisation's own authority.
func ownCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(50, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
