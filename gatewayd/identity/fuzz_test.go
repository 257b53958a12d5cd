package identity_test

import (
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Whatever an agent signs for a token, it names what it is for, in one spelling, and lives shortly.
func FuzzPayload(f *testing.F) {
	w := newWorld(f)
	f.Add(canonical(w, nil))
	for name, value := range map[string]string{"principal": "agent:report", "review": "", "expires": "9999-12-31T23:59:59Z", "nonce": "AA", "issued": "2026-13-01T00:00:00Z"} {
		f.Add(canonical(w, func(fields map[string]string) { fields[name] = value }))
	}
	f.Add([]byte(`{"v":1,"v":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		claims, err := identity.Verify(forge(t, w.etl, reviews.NamespaceToken, body), w.options())
		if (claims == nil) == (err == nil) {
			t.Fatal("neither claims nor an error")
		}
		if err == nil && (claims.Principal != "agent:etl" || claims.Gateway != w.fingerprint || claims.Expires.Sub(claims.Issued) > identity.MaxLifetime) {
			t.Fatalf("%s is taken for %+v", body, claims)
		}
	})
}

// A pin of the trust root is one key or an error.
func FuzzPin(f *testing.F) {
	w := newWorld(f)
	f.Add(string(ssh.MarshalAuthorizedKey(w.etl.PublicKey())), "")
	f.Add("", "sha256:00")
	f.Add("ssh-rsa AAAA", "sha256:")
	f.Fuzz(func(t *testing.T, key, tls string) {
		verify, err := identity.VerifyGateway(reviews.Gateway{Name: "gw1", Key: key, TLS: tls})
		if (verify == nil) == (err == nil) {
			t.Fatal("neither a pin nor an error")
		}
	})
}
