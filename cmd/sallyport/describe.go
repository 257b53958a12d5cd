package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sallyport-dev/sallyport/gatewayd/kube/call"
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
		line("  with %s masked (%s), beside what the connection masks", m.Names(), m.How())
	}
	for _, column := range s.Unmask {
		line("  with %s NOT masked, although the connection masks it", column)
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
	if s.Limits.Lookups > 0 {
		line("  and at most %d looked up values of masked columns an hour on each gateway", s.Limits.Lookups)
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
	if words := r.Words(); words != "" {
		return words
	}
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
	if c.Spec.Protocol == call.Protocol {
		text = fmt.Sprintf("connection %s reaches the Kubernetes API server %s:%d, with tls %s; the values of Secrets are masked", c.Metadata.Name, t.Host, t.Port, t.TLS)
	} else if len(c.Spec.Mask) == 0 {
		return text + "; nothing is masked"
	}
	for _, m := range c.Spec.Mask {
		text += fmt.Sprintf("\nmasked: %s with %s", m.Names(), m.How())
	}
	return text
}

// describeRoot leaves nothing out: who signs a trust root hands everything over.
func describeRoot(r *reviews.Root) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\n"+format, args...) }
	fmt.Fprintf(&b, "trust root version %d; %s of group root change it", r.Spec.Version, count(r.Spec.Threshold, "member"))
	for _, p := range r.Spec.Principals {
		text := strings.Join(fingerprints(p.Keys), ", ")
		for _, forge := range sortedKeys(p.Forge) {
			text += fmt.Sprintf(", %s account %d", forge, p.Forge[forge])
		}
		line("%s: %s", p.Name, text)
	}
	for _, name := range sortedKeys(r.Spec.Groups) {
		line("group %s: %s", name, strings.Join(r.Spec.Groups[name], ", "))
	}
	for _, d := range r.Spec.Delegations {
		line("%s: approved by %d of group %s alone", d.Principals, max(d.Threshold, 1), d.Group)
	}
	line("releases are signed by %s", strings.Join(fingerprints(r.Spec.Release), ", "))
	if len(r.Spec.Attesters) > 0 {
		line("approvals in the forge are attested by %s", strings.Join(fingerprints(r.Spec.Attesters), ", "))
	}
	for _, g := range r.Spec.Gateways {
		line("gateway %s: %s", g.Name, strings.Join(fingerprints([]reviews.Key{{Key: g.Key}}), ", "))
	}
	for _, k := range r.Spec.Revoked {
		voids := "all it approved is void"
		if k.Mode == "after" {
			voids = "what it approved from " + stamp(k.At) + " on is void"
		}
		line("revoked: %s%s (%s); %s", k.Fingerprint, k.Principal, k.Reason, voids)
	}
	for _, t := range r.Spec.Tombstones {
		line("closed for good: the document with sha256 %s (%s)", t.SHA256, t.Reason)
	}
	return b.String()
}

func describeConfig(c *reviews.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "settings; what is merged into %s is in force", c.Spec.Branch)
	if f := c.Spec.Forge; f.Kind != "" {
		fmt.Fprintf(&b, "\npull requests are those of %s on %s %s", f.Repository, f.Kind, f.URL)
	}
	for _, a := range c.Spec.Approvals {
		fmt.Fprintf(&b, "\n%s: %s", describeMatch(a.Match), describeApprovers(a))
	}
	return b.String()
}

func describeMatch(m reviews.ApprovalMatch) string {
	what := "everything"
	if len(m.Kinds) > 0 {
		kinds := make([]string, len(m.Kinds))
		for i, k := range m.Kinds {
			kinds[i] = string(k)
		}
		what = strings.Join(kinds, ", ")
	}
	for _, part := range []struct {
		words string
		list  []string
	}{{"on", m.Connections}, {"of risk", m.Risks}, {"with", m.Verbs}, {"at", m.Paths}} {
		if len(part.list) > 0 {
			what += " " + part.words + " " + strings.Join(part.list, ", ")
		}
	}
	if m.Unmask {
		what += " that unmasks a column"
	}
	return what
}

func describeApprovers(a reviews.ApprovalRule) string {
	how := "signature"
	if a.Mode == "forge" {
		how = "signature or approval of the pull request"
	}
	text := fmt.Sprintf("%d of %s (%s)", a.Threshold, strings.Join(a.Groups, " or "), how)
	if len(a.OneOf) > 0 {
		text += ", one of them of " + strings.Join(a.OneOf, " or ")
	}
	if a.Bots {
		text += ", bots count"
	}
	if a.Auto {
		text += ", an auto_approve rule counts as one"
	}
	return text
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
