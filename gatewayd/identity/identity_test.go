package identity_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/identity"
	"github.com/sallyport-dev/sallyport/reviews"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is one gateway and what it knows about two principals.
type world struct {
	gateway     ed25519.PrivateKey
	fingerprint string
	etl, bob    ssh.Signer
	keys        map[string][]reviews.Key
}

func newWorld(t testing.TB) *world {
	gateway, gatewaySigner := newKey(t)
	_, etl := newKey(t)
	_, bob := newKey(t)
	return &world{
		gateway:     gateway,
		fingerprint: ssh.FingerprintSHA256(gatewaySigner.PublicKey()),
		etl:         etl,
		bob:         bob,
		keys:        map[string][]reviews.Key{"agent:etl": {publicKey(etl)}, "user:bob": {publicKey(bob)}},
	}
}

func newKey(t testing.TB) (ed25519.PrivateKey, ssh.Signer) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return private, signer
}

func publicKey(s ssh.Signer) reviews.Key {
	return reviews.Key{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))}
}

func (w *world) claims() identity.Claims {
	return identity.Claims{
		Principal: "agent:etl", Connection: "orders-db", Review: "orders-db/etl-nightly",
		ReviewSHA256: strings.Repeat("ab", 32), Gateway: w.fingerprint,
		Issued: now, Expires: now.Add(time.Minute),
	}
}

func (w *world) options() identity.VerifyOptions {
	return identity.VerifyOptions{
		Keys:    func(principal string) []reviews.Key { return w.keys[principal] },
		Gateway: w.fingerprint,
		Now:     now,
	}
}

func mint(t testing.TB, signer ssh.Signer, claims identity.Claims) string {
	t.Helper()
	token, err := identity.Mint(signer, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// refused asserts the reason, and that no error gives a bearer secret away.
func refused(t *testing.T, token string, opt identity.VerifyOptions, want error) {
	t.Helper()
	claims, err := identity.Verify(token, opt)
	if claims != nil {
		t.Fatalf("accepted: %+v", claims)
	}
	if !errors.Is(err, want) {
		t.Fatalf("refused with %v, want %v", err, want)
	}
	if want != identity.ErrMalformed && identity.Rule(err) == "token_malformed" {
		t.Fatalf("%v has the rule of a malformed token", err)
	}
	for _, part := range strings.Split(token, ".") {
		for i := 0; i+16 <= len(part); i += 16 {
			if strings.Contains(err.Error(), part[i:i+16]) {
				t.Fatalf("the error holds a part of the token: %v", err)
			}
		}
	}
}

// --- attacks ---------------------------------------------------------------

func TestATokenIsRefusedOnAnyOtherTLSConnection(t *testing.T) {
	w := newWorld(t)
	client, _ := w.dial(t)
	_, otherServer := w.dial(t)
	claims := w.claims()
	claims.Exporter = exporterOf(t, client)
	token := mint(t, w.etl, claims)

	opt := w.options()
	state := otherServer.ConnectionState()
	opt.Exporter = state.ExportKeyingMaterial
	refused(t, token, opt, identity.ErrWrongChannel)

	opt.Exporter = nil
	refused(t, token, opt, identity.ErrWrongChannel)

	opt.Exporter = func(string, []byte, int) ([]byte, error) { return nil, errors.New("no extended master secret") }
	refused(t, token, opt, identity.ErrWrongChannel)
}

func TestStrippingTheExporterVoidsTheSignature(t *testing.T) {
	w := newWorld(t)
	client, _ := w.dial(t)
	claims := w.claims()
	claims.Exporter = exporterOf(t, client)
	token := mint(t, w.etl, claims)
	refused(t, rewrite(t, token, func(m map[string]any) { delete(m, "exporter") }), w.options(), identity.ErrBadSignature)
}

func TestATokenIsForOneGateway(t *testing.T) {
	w := newWorld(t)
	foreign := w.claims()
	_, other := newKey(t)
	foreign.Gateway = ssh.FingerprintSHA256(other.PublicKey())
	refused(t, mint(t, w.etl, foreign), w.options(), identity.ErrForeignGateway)

	nameless := w.options()
	nameless.Gateway = ""
	refused(t, mint(t, w.etl, w.claims()), nameless, identity.ErrForeignGateway)
}

func TestTimeBounds(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name            string
		bound           bool          // to the TLS connection
		issued, expires time.Duration // from now
		want            error
	}{
		{"expired beyond the skew", true, -2 * time.Minute, -31 * time.Second, identity.ErrExpired},
		{"expired at the edge of the skew", true, -2 * time.Minute, -30 * time.Second, identity.ErrExpired},
		{"expired within the skew", true, -2 * time.Minute, -29 * time.Second, nil},
		{"pasted, expired now", false, -2 * time.Minute, 0, identity.ErrExpired},
		{"pasted, expired within the skew", false, -2 * time.Minute, -time.Second, identity.ErrExpired},
		{"pasted, in its last second", false, -2 * time.Minute, time.Second, nil},
		{"issued within the skew", false, 30 * time.Second, time.Minute, nil},
		{"issued in the future", false, 31 * time.Second, time.Minute, identity.ErrNotYetValid},
		{"as long as may be", false, 0, 5 * time.Minute, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			claims := w.claims()
			claims.Issued, claims.Expires = now.Add(row.issued), now.Add(row.expires)
			options := w.options()
			if row.bound {
				claims.Exporter = bytes.Repeat([]byte{7}, identity.ExporterSize)
				options.Exporter = func(string, []byte, int) ([]byte, error) { return claims.Exporter, nil }
			}
			token := mint(t, w.etl, claims)
			if row.want != nil {
				refused(t, token, options, row.want)
				return
			}
			if _, err := identity.Verify(token, options); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestATokenThatLivesTooLongIsRefusedWhoeverMintedIt(t *testing.T) {
	w := newWorld(t)
	claims := w.claims()
	claims.Expires = now.Add(identity.MaxLifetime + time.Second)
	if _, err := identity.Mint(w.etl, claims); !errors.Is(err, identity.ErrTooLong) {
		t.Fatalf("Mint: %v", err)
	}
	token := forge(t, w.etl, reviews.NamespaceToken, canonical(w, func(m map[string]string) {
		m["expires"] = now.Add(identity.MaxLifetime + time.Second).Format(time.RFC3339)
	}))
	refused(t, token, w.options(), identity.ErrTooLong)
}

func TestOnlyThePrincipalsOwnKeysCount(t *testing.T) {
	w := newWorld(t)
	refused(t, mint(t, w.bob, w.claims()), w.options(), identity.ErrUnknownKey)

	stranger := w.claims()
	stranger.Principal = "agent:nobody"
	refused(t, mint(t, w.etl, stranger), w.options(), identity.ErrUnknownKey)

	revoked := w.options()
	revoked.Keys = func(string) []reviews.Key { return nil } // the release leaves revoked keys out
	refused(t, mint(t, w.etl, w.claims()), revoked, identity.ErrUnknownKey)
}

func TestAKeyCountsOnlyInItsWindow(t *testing.T) {
	w := newWorld(t)
	token := mint(t, w.etl, w.claims())
	key := w.keys["agent:etl"][0]
	for _, row := range []struct {
		name                string
		notBefore, notAfter time.Time
		good                bool
	}{
		{"not yet", now.Add(time.Second), time.Time{}, false},
		{"over", time.Time{}, now, false},
		{"within", now, now.Add(time.Second), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			key.NotBefore, key.NotAfter = row.notBefore, row.notAfter
			w.keys["agent:etl"] = []reviews.Key{key}
			if !row.good {
				refused(t, token, w.options(), identity.ErrUnknownKey)
				return
			}
			if _, err := identity.Verify(token, w.options()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestASignatureForAnythingElseIsNoToken(t *testing.T) {
	w := newWorld(t)
	body := canonical(w, nil)
	for _, namespace := range []string{reviews.NamespaceRelease, reviews.NamespaceFor(reviews.KindReview), "git", "file"} {
		refused(t, forge(t, w.etl, namespace, body), w.options(), identity.ErrBadSignature)
	}
}

func TestTamperedPayload(t *testing.T) {
	w := newWorld(t)
	token := mint(t, w.etl, w.claims())
	for field, value := range map[string]any{
		"principal": "user:bob", "review": "orders-db/admin", "reviewSHA256": strings.Repeat("cd", 32),
		"expires": now.Add(5 * time.Minute).Format(time.RFC3339), "gateway": "SHA256:other", "v": 2,
	} {
		refused(t, rewrite(t, token, func(m map[string]any) { m[field] = value }), w.options(), identity.ErrBadSignature)
	}
}

// TestOneSpelling signs odd payloads with the right key: the signature holds,
// the spelling must not.
func TestOneSpelling(t *testing.T) {
	w := newWorld(t)
	good := string(canonical(w, nil))
	for name, body := range map[string]string{
		"duplicate key":       strings.Replace(good, `"principal":"agent:etl"`, `"principal":"user:bob","principal":"agent:etl"`, 1),
		"duplicate at end":    strings.TrimSuffix(good, "}") + `,"principal":"user:bob"}`,
		"other capitals":      strings.Replace(good, `"principal"`, `"Principal"`, 1),
		"unknown field":       strings.TrimSuffix(good, "}") + `,"admin":true}`,
		"trailing garbage":    good + " ",
		"second value":        good + good,
		"leading space":       " " + good,
		"null":                "null",
		"empty object":        "{}",
		"array":               "[]",
		"string":              `"x"`,
		"empty":               "",
		"missing review":      strings.Replace(good, `"review":"orders-db/etl-nightly",`, "", 1),
		"review, no digest":   strings.Replace(good, strings.Repeat("ab", 32), "", 1),
		"digest, no review":   strings.Replace(good, "orders-db/etl-nightly", "", 1),
		"empty principal":     strings.Replace(good, "agent:etl", "", 1),
		"line break in name":  strings.Replace(good, "agent:etl", `agent:etl\n`, 1),
		"invalid UTF-8":       strings.Replace(good, "agent:etl", "agent:etl\xff", 1),
		"huge name":           strings.Replace(good, "agent:etl", "agent:"+strings.Repeat("e", 300), 1),
		"number as version":   strings.Replace(good, `"v":1`, `"v":1.0`, 1),
		"other version":       strings.Replace(good, `"v":1`, `"v":2`, 1),
		"version as string":   strings.Replace(good, `"v":1`, `"v":"1"`, 1),
		"upper-case digest":   strings.Replace(good, strings.Repeat("ab", 32), strings.Repeat("AB", 32), 1),
		"short digest":        strings.Replace(good, strings.Repeat("ab", 32), "abab", 1),
		"local time":          strings.Replace(good, "12:01:00Z", "13:01:00+01:00", 1),
		"fraction of seconds": strings.Replace(good, "12:01:00Z", "12:01:00.5Z", 1),
		"expires first":       strings.Replace(good, "12:01:00Z", "11:59:00Z", 1),
		"expires at once":     strings.Replace(good, "12:01:00Z", "12:00:00Z", 1),
		"short nonce":         strings.Replace(good, `"nonce":"AAAAAAAAAAAAAAAAAAAAAA"`, `"nonce":"AAAA"`, 1),
		"no nonce":            strings.Replace(good, `"nonce":"AAAAAAAAAAAAAAAAAAAAAA"`, `"nonce":""`, 1),
		"sloppy base64":       strings.Replace(good, `"nonce":"AAAAAAAAAAAAAAAAAAAAAA"`, `"nonce":"AAAAAAAAAAAAAAAAAAAAAB"`, 1),
		"short exporter":      strings.TrimSuffix(good, "}") + `,"exporter":"AAAA"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if body == good {
				t.Fatal("the row changes nothing")
			}
			refused(t, forge(t, w.etl, reviews.NamespaceToken, []byte(body)), w.options(), identity.ErrMalformed)
		})
	}
}

func TestMangledTokens(t *testing.T) {
	w := newWorld(t)
	good := mint(t, w.etl, w.claims())
	first, second, _ := strings.Cut(good, ".")
	for name, token := range map[string]string{
		"empty":             "",
		"a password":        "hunter2",
		"no signature":      first,
		"empty signature":   first + ".",
		"empty payload":     "." + second,
		"three parts":       good + ".x",
		"line break inside": first[:8] + "\n" + first[8:] + "." + second,
		"line break after":  good + "\n",
		"padding":           first + "=." + second,
		"standard alphabet": "+/" + first[2:] + "." + second,
		"giant":             strings.Repeat("A", identity.MaxTokenSize-len(second)) + "." + second,
		"very giant":        strings.Repeat("A.", 8<<20),
		"signature bytes behind the signature": first + "." +
			base64.RawURLEncoding.EncodeToString(append(mustDecode(t, second), "trailing"...)),
	} {
		t.Run(name, func(t *testing.T) {
			claims, err := identity.Verify(token, w.options())
			if claims != nil || err == nil {
				t.Fatalf("accepted: %+v", claims)
			}
			if len(err.Error()) > 300 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestAlgorithmConfusion(t *testing.T) {
	w := newWorld(t)
	body := canonical(w, nil)

	t.Run("a key type that is not allowed", func(t *testing.T) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		w.keys["agent:etl"] = append(w.keys["agent:etl"], publicKey(signer)) // even if a document listed it
		refused(t, forge(t, signer, reviews.NamespaceToken, body), w.options(), identity.ErrBadSignature)
	})
	t.Run("the hash that is not allowed", func(t *testing.T) {
		sig, err := sshsig.Sign(strings.NewReader(string(body)), w.etl, sshsig.HashSHA256, reviews.NamespaceToken)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, join(body, sig.Marshal()), w.options(), identity.ErrBadSignature)
	})
	t.Run("the public key of somebody else around an own signature", func(t *testing.T) {
		sig, err := sshsig.Sign(strings.NewReader(string(body)), w.bob, sshsig.HashSHA512, reviews.NamespaceToken)
		if err != nil {
			t.Fatal(err)
		}
		sig.PublicKey = w.etl.PublicKey()
		refused(t, join(body, sig.Marshal()), w.options(), identity.ErrBadSignature)
	})
	t.Run("no algorithm", func(t *testing.T) {
		sig, err := sshsig.Sign(strings.NewReader(string(body)), w.etl, sshsig.HashSHA512, reviews.NamespaceToken)
		if err != nil {
			t.Fatal(err)
		}
		sig.Signature.Format, sig.Signature.Blob = "none", nil
		refused(t, join(body, sig.Marshal()), w.options(), identity.ErrBadSignature)
	})
}

func TestMintRefusesWhatNoGatewayAccepts(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*identity.Claims){
		"no principal":   func(c *identity.Claims) { c.Principal = "" },
		"no gateway":     func(c *identity.Claims) { c.Gateway = "" },
		"no digest":      func(c *identity.Claims) { c.ReviewSHA256 = "" },
		"short exporter": func(c *identity.Claims) { c.Exporter = []byte("short") },
		"never expires":  func(c *identity.Claims) { c.Expires = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			claims := w.claims()
			change(&claims)
			if token, err := identity.Mint(w.etl, claims); err == nil {
				t.Fatalf("minted %d bytes", len(token))
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	good := mint(f, w.etl, w.claims())
	f.Add(good)
	f.Add("")
	f.Add(".")
	f.Add(strings.ToUpper(good))
	f.Add(forge(f, w.bob, reviews.NamespaceToken, canonical(w, nil)))
	f.Add(forge(f, w.etl, reviews.NamespaceToken, []byte(`{"v":1,"v":1}`)))
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := identity.Verify(token, w.options())
		if err == nil && token != good {
			t.Fatalf("a token that nobody minted was accepted: %+v", claims)
		}
		if err != nil && claims != nil {
			t.Fatal("claims beside an error")
		}
	})
}

// --- what works ------------------------------------------------------------

func TestABoundTokenOnItsOwnConnection(t *testing.T) {
	w := newWorld(t)
	client, server := w.dial(t)
	claims := w.claims()
	claims.Exporter = exporterOf(t, client)
	token := mint(t, w.etl, claims)

	opt := w.options()
	state := server.ConnectionState()
	opt.Exporter = state.ExportKeyingMaterial
	got, err := identity.Verify(token, opt)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Bound() || got.Principal != "agent:etl" || got.Review != "orders-db/etl-nightly" || got.Connection != "orders-db" ||
		got.ReviewSHA256 != claims.ReviewSHA256 || !got.Expires.Equal(claims.Expires) || !got.Issued.Equal(claims.Issued) {
		t.Fatalf("claims: %+v", got)
	}
	if got.Key != ssh.FingerprintSHA256(w.etl.PublicKey()) {
		t.Fatalf("key: %s", got.Key)
	}
}

func TestAPastedTokenWorksWithAndWithoutTLS(t *testing.T) {
	w := newWorld(t)
	_, server := w.dial(t)
	token := mint(t, w.etl, w.claims())
	opt := w.options()
	if got, err := identity.Verify(token, opt); err != nil || got.Bound() {
		t.Fatalf("%+v, %v", got, err)
	}
	state := server.ConnectionState()
	opt.Exporter = state.ExportKeyingMaterial
	if _, err := identity.Verify(token, opt); err != nil {
		t.Fatal(err)
	}
}

func TestATokenWithoutAReviewProvesWhoIsThere(t *testing.T) {
	w := newWorld(t)
	claims := w.claims()
	claims.Review, claims.ReviewSHA256 = "", ""
	got, err := identity.Verify(mint(t, w.etl, claims), w.options())
	if err != nil || got.Review != "" || got.Principal != "agent:etl" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestEveryReasonHasARule(t *testing.T) {
	seen := map[string]bool{}
	for _, err := range []error{
		identity.ErrMalformed, identity.ErrBadSignature, identity.ErrUnknownKey, identity.ErrForeignGateway,
		identity.ErrWrongChannel, identity.ErrTooLong, identity.ErrNotYetValid, identity.ErrExpired, identity.ErrBadCertificate,
	} {
		seen[identity.Rule(err)] = true
	}
	if len(seen) != len(identity.Rules()) {
		t.Fatalf("%d rules for %d reasons", len(seen), len(identity.Rules()))
	}
	if identity.Rule(errors.New("anything else")) != "token_malformed" {
		t.Fatal("an unknown error must have a rule too")
	}
}

// --- the pieces ------------------------------------------------------------

// dial is one real TLS connection between a client that pins the gateway and it.
func (w *world) dial(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	certificate, err := identity.GatewayCertificate(w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	return handshake(t, pinOf(t, w.gateway), &tls.Config{Certificates: []tls.Certificate{certificate}})
}

func handshake(t *testing.T, pin reviews.Gateway, serverConfig *tls.Config) (client, server *tls.Conn) {
	t.Helper()
	client, server, err := tryHandshake(t, pin, serverConfig)
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func tryHandshake(t *testing.T, pin reviews.Gateway, serverConfig *tls.Config) (client, server *tls.Conn, err error) {
	t.Helper()
	config, err := identity.ClientTLS(pin)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	client, server = tls.Client(a, config), tls.Server(b, serverConfig)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.HandshakeContext(ctx) // a client that refuses is the client's story
	}()
	err = client.HandshakeContext(ctx)
	if err != nil {
		a.Close()
	}
	<-done
	return client, server, err
}

func pinOf(t *testing.T, key ed25519.PrivateKey) reviews.Gateway {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return reviews.Gateway{Name: "gw1", Key: publicKey(signer).Key}
}

func exporterOf(t *testing.T, conn *tls.Conn) []byte {
	t.Helper()
	value, err := identity.Exporter(conn.ConnectionState())
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// canonical is the payload of w.claims() as Mint spells it, with a change.
func canonical(w *world, change func(map[string]string)) []byte {
	fields := map[string]string{
		"principal": "agent:etl", "connection": "orders-db", "review": "orders-db/etl-nightly",
		"reviewSHA256": strings.Repeat("ab", 32), "gateway": w.fingerprint,
		"issued": now.Format(time.RFC3339), "expires": now.Add(time.Minute).Format(time.RFC3339),
		"nonce": "AAAAAAAAAAAAAAAAAAAAAA",
	}
	if change != nil {
		change(fields)
	}
	body := `{"v":1`
	for _, name := range []string{"principal", "connection", "review", "reviewSHA256", "gateway", "issued", "expires", "nonce"} {
		value, _ := json.Marshal(fields[name])
		body += `,"` + name + `":` + string(value)
	}
	return []byte(body + "}")
}

// forge signs any payload, which Mint would not.
func forge(t testing.TB, signer ssh.Signer, namespace string, body []byte) string {
	t.Helper()
	sig, err := sshsig.Sign(strings.NewReader(string(body)), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(sshsig.Armor(sig))
	return join(body, block.Bytes)
}

func join(body, signature []byte) string {
	return base64.RawURLEncoding.EncodeToString(body) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// rewrite changes the payload of a token and leaves the signature alone.
func rewrite(t *testing.T, token string, change func(map[string]any)) string {
	t.Helper()
	first, second, _ := strings.Cut(token, ".")
	var fields map[string]any
	if err := json.Unmarshal(mustDecode(t, first), &fields); err != nil {
		t.Fatal(err)
	}
	change(fields)
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(body) + "." + second
}

func mustDecode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
