package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
)

// describeReview is a review in plain words.
func describeReview(r *reviews.Review) string {
	s := r.Spec
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s may, on %s:", s.Subject, s.Connection)
	for _, rule := range s.Allow {
		line("  - %s", describeRule(rule))
	}
	for _, rule := range s.Hold {
		line("  - %s, each time only after a person agreed", describeRule(rule))
	}
	for _, m := range s.Mask {
		line("  with %s masked (%s), beside what the connection masks", m.Column, m.With)
	}
	if s.Limits.Session > 0 {
		line("  for %s a session", s.Limits.Session)
	}
	if s.Limits.Idle > 0 {
		line("  that ends when it is idle for %s", s.Limits.Idle)
	}
	if s.Limits.Statement > 0 {
		line("  and at most %s a statement", s.Limits.Statement)
	}
	if s.Limits.Rows > 0 {
		line("  and at most %d rows a session", s.Limits.Rows)
	}
	if s.Limits.Bytes > 0 {
		line("  and at most %d bytes of rows a session", s.Limits.Bytes)
	}
	if s.Limits.Sessions > 0 {
		line("  and at most %d sessions at once on each gateway", s.Limits.Sessions)
	}
	line("from %s until %s (%s)", stamp(s.Validity.NotBefore), stamp(s.Validity.Expires), span(s.Validity.Expires.Sub(s.Validity.NotBefore)))
	ticket := ""
	if s.Justification.Ticket != "" {
		ticket = " (" + s.Justification.Ticket + ")"
	}
	line("asked for by %s%s: %s", s.Requester, ticket, s.Justification.Reason)
	return strings.TrimSuffix(b.String(), "\n")
}

func describeRule(r reviews.Rule) string {
	text := strings.Join(r.Verbs, ", ")
	if len(r.On) > 0 {
		text += " on " + strings.Join(r.On, ", ")
	}
	if len(r.Columns) > 0 {
		text += ", only columns " + strings.Join(r.Columns, ", ")
	}
	return text
}

func describePrincipal(p *reviews.Principal) string {
	text := fmt.Sprintf("%s may log in with %s", p.Metadata.Name, strings.Join(fingerprints(p.Spec.Keys), ", "))
	if p.Spec.Owner != "" {
		text += "; " + p.Spec.Owner + " answers for it"
	}
	return text
}

func describeConnection(c *reviews.Connection) string {
	t := c.Spec.Target
	text := fmt.Sprintf("connection %s reaches %s on %s:%d as role %s, with tls %s", c.Metadata.Name, t.Database, t.Host, t.Port, t.User, t.TLS)
	if len(c.Spec.Mask) == 0 {
		return text + "; nothing is masked"
	}
	for _, m := range c.Spec.Mask {
		text += fmt.Sprintf("\nmasked: %s with %s", m.Column, m.With)
	}
	return text
}

func describeRoot(r *reviews.Root) string {
	var b strings.Builder
	fmt.Fprintf(&b, "trust root version %d; %s of group root change it", r.Spec.Version, count(r.Spec.Threshold, "member"))
	for _, p := range r.Spec.Principals {
		fmt.Fprintf(&b, "\n%s: %s", p.Name, strings.Join(fingerprints(p.Keys), ", "))
	}
	for _, name := range sortedKeys(r.Spec.Groups) {
		fmt.Fprintf(&b, "\ngroup %s: %s", name, strings.Join(r.Spec.Groups[name], ", "))
	}
	for _, k := range r.Spec.Revoked {
		fmt.Fprintf(&b, "\nrevoked: %s (%s)", k.Fingerprint, k.Reason)
	}
	return b.String()
}

func describeConfig(c *reviews.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "settings; what is merged into %s is in force", c.Spec.Branch)
	for _, a := range c.Spec.Approvals {
		what := "everything"
		if len(a.Match.Kinds) > 0 {
			kinds := make([]string, len(a.Match.Kinds))
			for i, k := range a.Match.Kinds {
				kinds[i] = string(k)
			}
			what = strings.Join(kinds, ", ")
		}
		if len(a.Match.Connections) > 0 {
			what += " on " + strings.Join(a.Match.Connections, ", ")
		}
		fmt.Fprintf(&b, "\n%s: %s of %s", what, count(a.Threshold, "signature"), strings.Join(a.Groups, " or "))
	}
	return b.String()
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
