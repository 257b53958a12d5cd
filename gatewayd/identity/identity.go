// Package identity proves who is at the other end of a connection to gatewayd,
// in both directions: a principal to the gateway by a short-lived token signed
// with the principal's SSH key, the gateway to the principal by a TLS
// certificate whose key the trust root pins.
//
// A token names one principal, one connection, one review by the digest of its
// bytes, and one gateway. The invariant: what Verify returns was signed, within the last
// minutes, for this very gateway, by a key that the trust documents give to the
// principal it names; and a token that carries a TLS exporter value was signed
// for the very TLS connection it came in on, so that nothing seen elsewhere can
// be replayed.
//
// The package does not decide what a principal may do, nor whether the review
// still is the newest one: the session core does. It keeps no state, so a token
// without an exporter value can be used again until it expires.
package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	// MaxLifetime is the longest that a token may live, from issued to expires.
	MaxLifetime = 5 * time.Minute
	// BoundLifetime is how long a token lives that is minted for one TLS
	// connection and used at once.
	BoundLifetime = time.Minute
	// Skew is how far the clocks of a client and a gateway may be apart. It does
	// not lengthen the life of a token that is not bound to a connection.
	Skew = 30 * time.Second
	// MaxTokenSize bounds a token in bytes; a longer one is not even decoded.
	MaxTokenSize = 4096
	// ExporterLabel is the label of the TLS exporter (RFC 5705, RFC 8446 §7.5)
	// that binds a token to a connection. The context is empty.
	ExporterLabel = "EXPORTER-sallyport-token-v1"
	// ExporterSize is the length of the exporter value in bytes.
	ExporterSize = 32
)

const (
	version   = 1
	nonceSize = 16
	maxName   = 256 // bytes in a principal, connection or review name; far above what documents allow
)

// Claims is what a token says.
type Claims struct {
	Principal  string // agent:etl
	Connection string // orders-db
	// Review is the review to be used, orders-db/etl-nightly. It is "" in the
	// token of a client that knows of none: such a token proves only who is
	// there, so that the gateway can answer with what is missing.
	Review       string
	ReviewSHA256 string    // lower-case hex of the review document's bytes; "" without Review
	Gateway      string    // SHA256:… fingerprint of the gateway's SSH key
	Issued       time.Time // whole seconds
	Expires      time.Time // at most MaxLifetime after Issued
	// Exporter is the TLS exporter value of the one connection that the token
	// is for; nil in a token that a person pastes.
	Exporter []byte
	// Key is the fingerprint of the key that signed. Verify sets it; Mint ignores it.
	Key string
}

// Bound says whether the token is good for one TLS connection only.
func (c *Claims) Bound() bool { return len(c.Exporter) > 0 }

// payload is the signed form of Claims. The signed bytes are exactly what
// json.Marshal makes of it: Verify refuses every other spelling, which leaves
// duplicate keys, unknown fields and odd capitalisation nowhere to hide.
type payload struct {
	Version      int    `json:"v"`
	Principal    string `json:"principal"`
	Connection   string `json:"connection"`
	Review       string `json:"review"`
	ReviewSHA256 string `json:"reviewSHA256"`
	Gateway      string `json:"gateway"`
	Issued       string `json:"issued"`
	Expires      string `json:"expires"`
	Nonce        string `json:"nonce"`
	Exporter     string `json:"exporter,omitempty"`
}

var encoding = base64.RawURLEncoding.Strict()

// Mint signs the claims. The result is a bearer secret until it expires: it
// belongs into a password field and nowhere else.
//
// It fails when the claims are ones that Verify would refuse at any time, and
// when the signer does.
func Mint(signer ssh.Signer, claims Claims) (string, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	p := payload{
		Version:      version,
		Principal:    claims.Principal,
		Connection:   claims.Connection,
		Review:       claims.Review,
		ReviewSHA256: claims.ReviewSHA256,
		Gateway:      claims.Gateway,
		Issued:       claims.Issued.UTC().Format(time.RFC3339),
		Expires:      claims.Expires.UTC().Format(time.RFC3339),
		Nonce:        encoding.EncodeToString(nonce),
		Exporter:     encoding.EncodeToString(claims.Exporter),
	}
	if _, err := p.claims(); err != nil {
		return "", fmt.Errorf("minting a token: %w", err)
	}
	body, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("minting a token: %w", err)
	}
	armored, err := reviews.Sign(signer, reviews.NamespaceToken, body)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	block, _ := pem.Decode(armored)
	if block == nil {
		return "", errors.New("signing a token: the signer returned no SSH signature")
	}
	token := encoding.EncodeToString(body) + "." + encoding.EncodeToString(block.Bytes)
	if len(token) > MaxTokenSize {
		return "", fmt.Errorf("minting a token: %d bytes are more than the %d that a gateway reads", len(token), MaxTokenSize)
	}
	return token, nil
}

// Exporter is the value that binds a token to the connection.
func Exporter(state tls.ConnectionState) ([]byte, error) {
	value, err := state.ExportKeyingMaterial(ExporterLabel, nil, ExporterSize)
	if err != nil {
		return nil, fmt.Errorf("TLS exporter of this connection: %w", err)
	}
	return value, nil
}

// parsePayload reads signed bytes in the one spelling there is.
func parsePayload(body []byte) (*payload, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, malformed("the payload is not the JSON of a token") // the cause would quote the payload
	}
	canonical, err := json.Marshal(p)
	if err != nil || !bytes.Equal(canonical, body) {
		return nil, malformed("the payload is not spelled as a token is: unknown, repeated, reordered or missing fields")
	}
	return &p, nil
}

// claims checks everything that needs neither clock nor keys.
func (p *payload) claims() (*Claims, error) {
	if p.Version != version {
		return nil, malformed("version %d is not supported, only %d", p.Version, version)
	}
	for _, f := range []struct{ field, value string }{
		{"principal", p.Principal}, {"connection", p.Connection}, {"gateway", p.Gateway},
	} {
		if !printable(f.value) {
			return nil, malformed("%s is empty, too long or not plain text", f.field)
		}
	}
	if err := p.checkReview(); err != nil {
		return nil, err
	}
	if nonce, err := decode(p.Nonce); err != nil || len(nonce) != nonceSize {
		return nil, malformed("nonce is not %d bytes", nonceSize)
	}
	exporter, err := decode(p.Exporter)
	if err != nil || (len(exporter) != 0 && len(exporter) != ExporterSize) {
		return nil, malformed("exporter is not %d bytes", ExporterSize)
	}
	issued, err := parseTime(p.Issued)
	if err != nil {
		return nil, malformed("issued is not a UTC time in whole seconds")
	}
	expires, err := parseTime(p.Expires)
	if err != nil {
		return nil, malformed("expires is not a UTC time in whole seconds")
	}
	if !expires.After(issued) {
		return nil, malformed("it expires before it was issued")
	}
	if expires.Sub(issued) > MaxLifetime {
		return nil, fmt.Errorf("%w: it lives %s, at most %s are allowed; mint one with a shorter --for",
			ErrTooLong, expires.Sub(issued), MaxLifetime)
	}
	return &Claims{
		Principal: p.Principal, Connection: p.Connection, Review: p.Review, ReviewSHA256: p.ReviewSHA256,
		Gateway: p.Gateway, Issued: issued, Expires: expires, Exporter: exporter,
	}, nil
}

// checkReview wants a review with its digest, or neither.
func (p *payload) checkReview() error {
	if p.Review == "" && p.ReviewSHA256 == "" {
		return nil
	}
	if !printable(p.Review) {
		return malformed("review is empty, too long or not plain text")
	}
	digest, err := hex.DecodeString(p.ReviewSHA256)
	if err != nil || len(digest) != 32 || hex.EncodeToString(digest) != p.ReviewSHA256 {
		return malformed("reviewSHA256 is not 64 lower-case hex digits")
	}
	return nil
}

// decode is base64url without padding, in the one spelling there is: Go's
// decoder skips line breaks by itself.
func decode(s string) ([]byte, error) {
	b, err := encoding.DecodeString(s)
	if err == nil && encoding.EncodedLen(len(b)) != len(s) {
		return nil, errors.New("line breaks in base64")
	}
	return b, err
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err == nil && t.Format(time.RFC3339) != s {
		return time.Time{}, errors.New("not in whole seconds")
	}
	return t, err
}

func printable(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
