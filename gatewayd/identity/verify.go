package identity

import (
	"bytes"
	"crypto/subtle"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Why a token is refused. Verify wraps exactly one of them with what it found;
// neither the token nor any part of its signature is ever in the text.
var (
	ErrMalformed      = errors.New("the token is malformed")
	ErrBadSignature   = errors.New("the token's signature does not verify")
	ErrUnknownKey     = errors.New("the token is not signed by a key of the principal it names")
	ErrForeignGateway = errors.New("the token is for another gateway")
	ErrWrongChannel   = errors.New("the token belongs to another TLS connection")
	ErrTooLong        = errors.New("the token lives too long")
	ErrNotYetValid    = errors.New("the token is not valid yet")
	ErrExpired        = errors.New("the token has expired")
)

// rules are the stable ids of the reasons, in the order in which Rule looks.
var rules = []struct {
	err  error
	rule string
}{
	{ErrMalformed, "token_malformed"},
	{ErrBadSignature, "token_bad_signature"},
	{ErrUnknownKey, "token_unknown_key"},
	{ErrForeignGateway, "token_foreign_gateway"},
	{ErrWrongChannel, "token_wrong_channel"},
	{ErrTooLong, "token_too_long"},
	{ErrNotYetValid, "token_not_yet_valid"},
	{ErrExpired, "token_expired"},
	{ErrBadCertificate, "certificate_refused"},
}

// Rule is the stable id of the reason why Verify refused: what journals,
// metrics and the runbook call it.
func Rule(err error) string {
	for _, r := range rules {
		if errors.Is(err, r.err) {
			return r.rule
		}
	}
	return "token_malformed"
}

// Rules are all the ids that Rule returns.
func Rules() []string {
	ids := make([]string, len(rules))
	for i, r := range rules {
		ids[i] = r.rule
	}
	return ids
}

// VerifyOptions is what a gateway knows when a token comes in.
type VerifyOptions struct {
	// Keys are the principal's keys that are not revoked; none for a stranger.
	Keys func(principal string) []reviews.Key
	// Gateway is the fingerprint (SHA256:…) of this gateway's own SSH key.
	Gateway string
	// Exporter is ExportKeyingMaterial of the TLS connection that the token
	// came in on; nil without TLS.
	Exporter func(label string, context []byte, n int) ([]byte, error)
	// Now is the time to judge by.
	Now time.Time
}

// Verify reads a token and returns what it claims. Its error wraps one of the
// Err… values above.
func Verify(token string, opt VerifyOptions) (*Claims, error) {
	body, armored, err := split(token)
	if err != nil {
		return nil, err
	}
	key, err := reviews.Verify(armored, reviews.NamespaceToken, body)
	if err != nil {
		return nil, fmt.Errorf("%w: mint a new one with `sallyport token`", ErrBadSignature) // the cause may quote signed bytes
	}
	p, err := parsePayload(body)
	if err != nil {
		return nil, err
	}
	claims, err := p.claims()
	if err != nil {
		return nil, err
	}
	if err := claims.checkKey(key, opt); err != nil {
		return nil, err
	}
	if claims.Gateway != opt.Gateway || opt.Gateway == "" {
		return nil, fmt.Errorf("%w: it names %s, this is %s", ErrForeignGateway, claims.Gateway, opt.Gateway)
	}
	if err := claims.checkTime(opt.Now); err != nil {
		return nil, err
	}
	if err := claims.checkChannel(opt); err != nil {
		return nil, err
	}
	claims.Key = ssh.FingerprintSHA256(key)
	return claims, nil
}

// split cuts a token into the signed bytes and the armoured signature.
func split(token string) (body, armored []byte, err error) {
	if len(token) > MaxTokenSize {
		return nil, nil, malformed("%d bytes are more than %d", len(token), MaxTokenSize)
	}
	first, second, found := strings.Cut(token, ".")
	if !found {
		return nil, nil, malformed("a token is two parts with a dot between them; paste all of what `sallyport token` printed")
	}
	if body, err = decode(first); err != nil {
		return nil, nil, malformed("the first part is not base64url")
	}
	signature, err := decode(second)
	if err != nil {
		return nil, nil, malformed("the second part is not base64url")
	}
	return body, pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: signature}), nil
}

func (c *Claims) checkKey(key ssh.PublicKey, opt VerifyOptions) error {
	for _, k := range opt.Keys(c.Principal) {
		known, err := k.PublicKey()
		if err != nil || !bytes.Equal(known.Marshal(), key.Marshal()) {
			continue
		}
		if err := k.Usable(opt.Now); err != nil {
			return fmt.Errorf("%w: key %s of %s: %w", ErrUnknownKey, ssh.FingerprintSHA256(key), c.Principal, err)
		}
		return nil
	}
	return fmt.Errorf("%w: %s has no valid key %s in the loaded release", ErrUnknownKey, c.Principal, ssh.FingerprintSHA256(key))
}

func (c *Claims) checkTime(now time.Time) error {
	if now.Add(Skew).Before(c.Issued) {
		return fmt.Errorf("%w: it was issued at %s, here it is %s; check the clocks", ErrNotYetValid,
			c.Issued.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	skew := Skew
	if !c.Bound() {
		skew = 0 // whoever has it is let in, so not a second longer than it says
	}
	if !now.Add(-skew).Before(c.Expires) {
		return fmt.Errorf("%w at %s, here it is %s; mint a new one", ErrExpired,
			c.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func (c *Claims) checkChannel(opt VerifyOptions) error {
	if !c.Bound() {
		return nil
	}
	if opt.Exporter == nil {
		return fmt.Errorf("%w: it is bound to one, and this connection has no TLS", ErrWrongChannel)
	}
	value, err := opt.Exporter(ExporterLabel, nil, ExporterSize)
	if err != nil {
		return fmt.Errorf("%w: this connection has no TLS exporter (%v); use TLS 1.3", ErrWrongChannel, err)
	}
	if subtle.ConstantTimeCompare(value, c.Exporter) != 1 {
		return fmt.Errorf("%w: it was minted for one connection and came in on another", ErrWrongChannel)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Unverified is what a token says, whoever signed it: for an engine that has to know which session a token is of before it is
// verified. Nothing may be granted by it.
func Unverified(token string) (*Claims, error) {
	body, _, err := split(token)
	if err != nil {
		return nil, err
	}
	p, err := parsePayload(body)
	if err != nil {
		return nil, err
	}
	return p.claims()
}
