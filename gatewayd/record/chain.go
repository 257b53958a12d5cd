package record

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// chain is the state that the next record of a session builds on.
type chain struct {
	seq   int64  // of the last record
	prev  string // digest of the last record's line
	tally tally
}

func newChain() chain { return chain{prev: genesis, tally: newTally()} }

// next gives r its place after the chain's last record and appends its line to dst.
// The chain moves on only with advance, when the line has been written.
func (c *chain) next(dst *bytes.Buffer, r *Record, now time.Time) error {
	r.Seq, r.Time, r.Prev = c.seq+1, now.UTC(), c.prev
	return encode(dst, r)
}

func (c *chain) advance(r *Record, line []byte) {
	c.seq, c.prev = r.Seq, digestLine(line)
	c.tally.add(r)
}

// follow checks that line is the chain's next record and moves on to it.
func (c *chain) follow(line []byte) (*Record, error) {
	r, err := decode(line)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Seq != c.seq+1:
		return nil, fmt.Errorf("it says that it is record %d: records are missing, repeated or out of order", r.Seq)
	case r.Prev != c.prev:
		return nil, errBroken
	case (r.Type == TypeOpen) != (r.Seq == 1):
		return nil, fmt.Errorf("a record of type %q has no place here", r.Type)
	case c.tally.closed && r.Type != TypeSeal, c.tally.sealed, r.Type == TypeSeal && !c.tally.closed:
		return nil, fmt.Errorf("a record of type %q has no place after the end of the session", r.Type)
	}
	c.advance(r, line)
	return r, nil
}

var errBroken = errors.New("its bytes, or those of the record before it, were changed: the hash chain is broken")

// seals is the statement that a gateway signs to end a recording. It binds
// the head to one session of one gateway, and to the seal's own time, so that no
// byte of the seal can change unnoticed.
func seals(h Header, records int64, head string, at time.Time) string {
	return fmt.Sprintf("sallyport recording\nsession %s\ngateway %s\nrecords %d\nhead %s\nsealed %s\n",
		h.Session, h.Gateway, records, head, at.UTC().Format(time.RFC3339Nano))
}

// Armour of an SSHSIG as ssh-keygen writes it.
const (
	armorBegin = "-----BEGIN SSH SIGNATURE-----\n"
	armorEnd   = "-----END SSH SIGNATURE-----\n"
)

// plainArmor accepts only one way to write a signature. A decoder forgives
// stray bits and line breaks; a recording must not have bytes that can change unnoticed.
func plainArmor(sig string) error {
	body, begins := strings.CutPrefix(sig, armorBegin)
	body, ends := strings.CutSuffix(body, armorEnd)
	if !begins || !ends {
		return errors.New("the signature is not an armoured SSH signature")
	}
	parts := strings.SplitAfter(body, "\n")
	width := len(parts[0])
	for i, p := range parts[:len(parts)-1] {
		if len(p) > width || (len(p) < width && i != len(parts)-2) {
			return errors.New("the signature's lines are of uneven length")
		}
	}
	if parts[len(parts)-1] != "" || strings.Contains(body, "\r") {
		return errors.New("the signature's lines do not end as they should")
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil {
		return fmt.Errorf("the signature is not base64: %w", err)
	}
	return nil
}
