package identity

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// ErrBadCertificate says that an SSH user certificate does not prove who the client says it is.
var ErrBadCertificate = errors.New("the certificate does not prove it")

// KeyOptions is what a gateway knows when a client has proved that it holds a private key.
type KeyOptions struct {
	// Keys are the principal's keys that are not revoked; none for a stranger.
	Keys []reviews.Key
	// Authorities may vouch for the principal by certificates; none for a stranger.
	Authorities []reviews.Authority
	// Revoked reports keys that are revoked, and principals.
	Revoked func(key ssh.PublicKey, principal string) bool
	// Now is the time to judge by.
	Now time.Time
}

// VerifyKey says whether a key or user certificate, which the client has proved, is
// the principal's, and returns the key's fingerprint. Its error wraps
// ErrUnknownKey or ErrBadCertificate.
func VerifyKey(key ssh.PublicKey, principal string, opt KeyOptions) (string, error) {
	cert, is := key.(*ssh.Certificate)
	if !is {
		c := Claims{Principal: principal}
		keys := func(string) []reviews.Key { return opt.Keys }
		return ssh.FingerprintSHA256(key), c.checkKey(key, VerifyOptions{Keys: keys, Now: opt.Now})
	}
	fingerprint := ssh.FingerprintSHA256(cert.Key)
	switch {
	case cert.CertType != ssh.UserCert:
		return "", fmt.Errorf("%w: it is not a user certificate", ErrBadCertificate)
	case len(cert.ValidPrincipals) == 0:
		return "", fmt.Errorf("%w: it names no principal, which would be everybody", ErrBadCertificate)
	case opt.Revoked(cert.Key, principal) || opt.Revoked(cert.SignatureKey, principal):
		return "", fmt.Errorf("%w: it, its authority or %s is revoked", ErrBadCertificate, principal)
	}
	if err := certified(cert, principal, opt); err != nil {
		return "", err
	}
	checker := ssh.CertChecker{Clock: func() time.Time { return opt.Now }, SupportedCriticalOptions: []string{sourceAddress}}
	if err := checker.CheckCert(principal, cert); err != nil {
		return "", fmt.Errorf("%w: %v", ErrBadCertificate, err)
	}
	return fingerprint, nil
}

// sourceAddress is the one critical option that is understood; the ssh engine hands it to its server, which checks it.
const sourceAddress = "source-address"

// certified looks for the authority that signed.
func certified(cert *ssh.Certificate, principal string, opt KeyOptions) error {
	for _, a := range opt.Authorities {
		window := reviews.Key{Key: a.Key, NotBefore: a.NotBefore, NotAfter: a.NotAfter}
		known, err := window.PublicKey()
		if err != nil || !bytes.Equal(known.Marshal(), cert.SignatureKey.Marshal()) || !a.Certifies(principal) {
			continue
		}
		if err := window.Usable(opt.Now); err != nil {
			return fmt.Errorf("%w: its authority %s: %w", ErrBadCertificate, ssh.FingerprintSHA256(known), err)
		}
		return nil
	}
	return fmt.Errorf("%w: no authority %s may vouch for %s in the loaded release", ErrBadCertificate, ssh.FingerprintSHA256(cert.SignatureKey), principal)
}
