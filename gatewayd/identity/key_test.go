package identity_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/reviews"
)

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func line(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

// A certificate proves a principal only when an authority for that principal signed it, it names the principal,
// its time has come, and nothing of it is revoked.
func TestCertificates(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	ca, other, user := newSigner(t), newSigner(t), newSigner(t)
	var revoked ssh.PublicKey
	opt := identity.KeyOptions{
		Authorities: []reviews.Authority{{Key: line(ca), Principals: []string{"agent:etl-*"}}},
		Revoked: func(key ssh.PublicKey, principal string) bool {
			return revoked != nil && string(key.Marshal()) == string(revoked.Marshal()) || principal == "agent:etl-gone"
		},
		Now: now,
	}
	good := func() *ssh.Certificate {
		return &ssh.Certificate{
			Key: user.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"agent:etl-1", "agent:report"},
			ValidAfter: uint64(now.Add(-time.Hour).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		}
	}
	signed := func(by ssh.Signer, change func(*ssh.Certificate)) *ssh.Certificate {
		c := good()
		if change != nil {
			change(c)
		}
		if err := c.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if got, err := identity.VerifyKey(signed(ca, nil), "agent:etl-1", opt); err != nil || got != ssh.FingerprintSHA256(user.PublicKey()) {
		t.Fatalf("%q, %v", got, err)
	}
	for name, c := range map[string]struct {
		cert      *ssh.Certificate
		principal string
		before    func()
	}{
		"another authority":                 {signed(other, nil), "agent:etl-1", nil},
		"a principal that it does not name": {signed(ca, nil), "agent:etl-2", nil},
		"one that the authority is not for": {signed(ca, nil), "agent:report", nil},
		"nobody named":                      {signed(ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), "agent:etl-1", nil},
		"of a host":                         {signed(ca, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), "agent:etl-1", nil},
		"expired":                           {signed(ca, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Unix()) }), "agent:etl-1", nil},
		"not valid yet":                     {signed(ca, func(c *ssh.Certificate) { c.ValidAfter = uint64(now.Add(time.Minute).Unix()) }), "agent:etl-1", nil},
		"an unknown critical option": {signed(ca, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{"force-command": "true"}
		}), "agent:etl-1", nil},
		"changed after it was signed": {func() *ssh.Certificate { c := signed(ca, nil); c.ValidBefore++; return c }(), "agent:etl-1", nil},
		"its key revoked":             {signed(ca, nil), "agent:etl-1", func() { revoked = user.PublicKey() }},
		"its authority revoked":       {signed(ca, nil), "agent:etl-1", func() { revoked = ca.PublicKey() }},
		"its principal revoked":       {signed(ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"agent:etl-gone"} }), "agent:etl-gone", nil},
	} {
		revoked = nil
		if c.before != nil {
			c.before()
		}
		if _, err := identity.VerifyKey(c.cert, c.principal, opt); !errors.Is(err, identity.ErrBadCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	revoked = nil
	late := opt
	late.Authorities = []reviews.Authority{{Key: line(ca), Principals: []string{"agent:etl-*"}, NotAfter: now}}
	if _, err := identity.VerifyKey(signed(ca, nil), "agent:etl-1", late); !errors.Is(err, identity.ErrBadCertificate) {
		t.Errorf("an authority whose time is over: %v", err)
	}
	if _, err := identity.VerifyKey(user.PublicKey(), "agent:etl-1", opt); !errors.Is(err, identity.ErrUnknownKey) {
		t.Errorf("a key that is nobody's: %v", err)
	}
}
