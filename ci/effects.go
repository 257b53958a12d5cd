package ci

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Effect is what a change does to one document, in words.
type Effect struct {
	Path   string       `json:"path"`
	Kind   reviews.Kind `json:"kind,omitempty"` // "" for what is no document
	Action string       `json:"action"`         // added, changed, deleted or approvals
	Says   []string     `json:"says,omitempty"`
}

// effects says what the change does, document by document.
func (c *comparison) effects() {
	list := slices.Collect(maps.Keys(c.touched))
	for doc := range c.touched { // a catalog is judged with its connection, and told apart
		if name, is := strings.CutSuffix(doc, ".yaml"); is && reviews.KindOf(doc) == reviews.KindConnection {
			list = append(list, name+".catalog.json")
		}
	}
	slices.Sort(list)
	for _, doc := range list {
		before, _ := fs.ReadFile(c.Base, doc)
		now, _ := fs.ReadFile(c.Head, doc)
		e := Effect{Path: doc, Kind: reviews.KindOf(doc), Action: "changed"}
		switch {
		case c.added[doc], e.Kind == reviews.KindCatalog && before == nil && now != nil:
			e.Action = "added"
		case c.deleted[doc], e.Kind == reviews.KindCatalog && before != nil && now == nil:
			e.Action = "deleted"
		case string(before) != string(now):
		case slices.ContainsFunc(c.Paths, func(p string) bool { return p == doc || strings.HasPrefix(p, doc+".sigs") }):
			e.Action = "approvals"
		default:
			continue // something else of the same name changes
		}
		if e.Action != "approvals" {
			e.Says = says(doc, before, now)
		}
		c.report.Changes = append(c.report.Changes, e)
	}
}

// says compares two versions of a document; nil is none. What does not parse says nothing.
func says(doc string, before, now []byte) []string {
	was, is := factsOf(doc, before), factsOf(doc, now)
	var list []string
	for _, f := range is {
		if !slices.Contains(was, f) {
			list = append(list, "now: "+f)
		}
	}
	for _, f := range was {
		if !slices.Contains(is, f) {
			list = append(list, "no longer: "+f)
		}
	}
	return list
}

// factsOf takes a document apart into statements that stand on their own.
func factsOf(doc string, b []byte) []string {
	if b == nil {
		return nil
	}
	switch reviews.KindOf(doc) {
	case reviews.KindReview:
		if r, err := reviews.ParseReview(doc, b); err == nil {
			return reviewFacts(r)
		}
	case reviews.KindConnection:
		if conn, err := reviews.ParseConnection(doc, b); err == nil {
			return connectionFacts(conn)
		}
	case reviews.KindPrincipal:
		if p, err := reviews.ParsePrincipal(doc, b); err == nil {
			return principalFacts(p)
		}
	case reviews.KindConfig:
		if conf, err := reviews.ParseConfig(doc, b); err == nil {
			return configFacts(conf)
		}
	case reviews.KindRoot:
		if r, err := reviews.ParseRoot(doc, b); err == nil {
			return rootFacts(r)
		}
	}
	return nil
}

func reviewFacts(r *reviews.Review) []string {
	s := r.Spec
	may := s.Subject + " may "
	facts := ruleFacts(may, s.Allow, "")
	facts = append(facts, ruleFacts(may, s.Hold, ", each time only after a person agreed")...)
	facts = append(facts, maskFacts(s.Mask)...)
	for _, column := range s.Unmask {
		facts = append(facts, column+" is shown, although the connection masks it")
	}
	if s.Limits.Session > 0 {
		facts = append(facts, "at most "+s.Limits.Session.String()+" a session")
	}
	if s.Limits.Rows > 0 {
		facts = append(facts, fmt.Sprintf("at most %d rows a session", s.Limits.Rows))
	}
	return append(facts, fmt.Sprintf("from %s until %s", stamp(s.Validity.NotBefore), stamp(s.Validity.Expires)), "asked for by "+s.Requester)
}

// ruleFacts are one fact for each verb and relation, so that a comparison does not
// depend on how rules are grouped.
func ruleFacts(may string, list []reviews.Rule, how string) []string {
	var facts []string
	for _, r := range list {
		if words := r.Words(); words != "" {
			facts = append(facts, may+words+how)
			continue
		}
		on := r.On
		if len(on) == 0 {
			on = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, relation := range on {
				fact := may + verb
				if relation != "" {
					fact += " on " + relation
				}
				if len(r.Columns) > 0 {
					fact += ", only columns " + strings.Join(slices.Sorted(slices.Values(r.Columns)), ", ")
				}
				facts = append(facts, fact+how)
			}
		}
	}
	return facts
}

func maskFacts(masks []reviews.Mask) []string {
	var facts []string
	for _, m := range masks {
		facts = append(facts, m.Names()+" is masked with "+m.How())
	}
	return facts
}

// connectionFacts say nothing of the credential: it is only a reference, but the
// gateway's own business.
func connectionFacts(c *reviews.Connection) []string {
	t := c.Spec.Target
	if c.Spec.Protocol == "ssh" {
		return append(sshFacts(c), maskFacts(c.Spec.Mask)...)
	}
	if c.Spec.Protocol == "kubernetes" {
		return append(kubeFacts(c), maskFacts(c.Spec.Mask)...)
	}
	facts := []string{fmt.Sprintf("it reaches database %s on %s:%d as role %s with tls %s", t.Database, t.Host, t.Port, t.User, t.TLS)}
	if t.Privileged {
		facts = append(facts, "its masks are used although the role may read around them in the database")
	}
	if c.Spec.Risk != "" {
		facts = append(facts, "its risk is "+c.Spec.Risk)
	}
	for _, f := range c.Spec.Functions {
		facts = append(facts, "statements may call "+f)
	}
	if c.Spec.HashFunction != "" {
		facts = append(facts, "hashes of masks are made by "+c.Spec.HashFunction+", the same in all sessions")
	}
	return append(facts, maskFacts(c.Spec.Mask)...)
}

func sshFacts(c *reviews.Connection) []string {
	t := c.Spec.Target
	facts := []string{fmt.Sprintf("it reaches the ssh host %s:%d as %s", t.Host, t.Port, t.User)}
	for _, key := range t.HostKeys {
		facts = append(facts, "the host may prove itself with "+reviews.Key{Key: key}.Fingerprint())
	}
	if c.Spec.Risk != "" {
		facts = append(facts, "its risk is "+c.Spec.Risk)
	}
	for _, name := range c.Spec.Environment {
		facts = append(facts, "clients may set the variable "+name)
	}
	return facts
}

func kubeFacts(c *reviews.Connection) []string {
	t := c.Spec.Target
	facts := []string{fmt.Sprintf("it reaches the Kubernetes API server %s:%d with tls %s", t.Host, t.Port, t.TLS)}
	if t.Impersonate {
		facts = append(facts, "the API server sees each request as the principal's, so that its own RBAC applies as well")
	}
	if c.Spec.Risk != "" {
		facts = append(facts, "its risk is "+c.Spec.Risk)
	}
	return facts
}

func principalFacts(p *reviews.Principal) []string {
	var facts []string
	for _, k := range p.Spec.Keys {
		facts = append(facts, p.Metadata.Name+" may log in with key "+k.Fingerprint())
	}
	if p.Spec.Owner != "" {
		facts = append(facts, p.Spec.Owner+" answers for it")
	}
	return facts
}

func configFacts(c *reviews.Config) []string {
	var facts []string
	for _, r := range c.Spec.Approvals {
		facts = append(facts, matchText(r.Match)+" needs "+approversText(r))
	}
	if f := c.Spec.Forge; f.Kind != "" {
		facts = append(facts, strings.TrimSpace(fmt.Sprintf("pull requests are those of %s on %s %s", f.Repository, f.Kind, f.URL)))
	}
	for _, p := range c.Spec.Policies {
		facts = append(facts, "policy "+p+" has to be there")
	}
	for _, g := range c.Spec.Gateways {
		for _, l := range []struct{ address, what string }{{g.Postgres, "postgres"}, {g.SSH, "ssh"}, {g.Kubernetes, "kubernetes"}} {
			if l.address != "" {
				facts = append(facts, "gateway "+g.Name+" listens for "+l.what+" on "+l.address)
			}
		}
	}
	return append(facts,
		"branch "+c.Spec.Branch+" holds what is merged", "a review lasts at most "+c.Spec.MaxReviewLifetime.String(),
		"a release is good for "+c.Spec.Freshness.ValidFor.String(), "summaries go to branch "+c.Spec.Audit.Branch)
}

func matchText(m reviews.ApprovalMatch) string {
	var kinds []string
	for _, k := range m.Kinds {
		kinds = append(kinds, string(k))
	}
	text := "every document"
	if len(kinds) > 0 {
		text = "every " + strings.Join(kinds, " or ")
	}
	if len(m.Connections) > 0 {
		text += " of " + strings.Join(m.Connections, " or ")
	}
	for _, part := range []struct {
		words string
		list  []string
	}{{"of risk", m.Risks}, {"with", m.Verbs}, {"at", m.Paths}} {
		if len(part.list) > 0 {
			text += " " + part.words + " " + strings.Join(part.list, " or ")
		}
	}
	if m.Unmask {
		text += " that unmasks a column or lets rows be looked up by one"
	}
	return text
}

func approversText(r reviews.ApprovalRule) string {
	text := fmt.Sprintf("%d of %s", r.Threshold, strings.Join(r.Groups, ", "))
	if len(r.OneOf) > 0 {
		text += ", one of them of " + strings.Join(r.OneOf, ", ")
	}
	if r.Mode == "forge" {
		text += "; approvals of the pull request count"
	}
	if r.Bots {
		text += ", bots' too"
	}
	if r.Auto {
		text += "; an auto_approve rule counts as one"
	}
	return text
}

func rootFacts(r *reviews.Root) []string {
	s := r.Spec
	facts := []string{fmt.Sprintf("it is version %d", s.Version), fmt.Sprintf("%d of group root change it", s.Threshold)}
	for _, p := range s.Principals {
		for _, k := range p.Keys {
			facts = append(facts, p.Name+" may sign with key "+k.Fingerprint())
		}
		for _, forge := range slices.Sorted(maps.Keys(p.Forge)) {
			facts = append(facts, fmt.Sprintf("%s is account %d on %s", p.Name, p.Forge[forge], forge))
		}
	}
	for _, d := range s.Delegations {
		facts = append(facts, fmt.Sprintf("principals %s are approved by %d of group %s alone", d.Principals, max(d.Threshold, 1), d.Group))
	}
	for _, a := range s.Authorities {
		facts = append(facts, fmt.Sprintf("ssh certificates signed with key %s are believed for %s", reviews.Key{Key: a.Key}.Fingerprint(), strings.Join(a.Principals, ", ")))
	}
	for _, k := range s.Attesters {
		facts = append(facts, "approvals in the forge are attested with key "+k.Fingerprint())
	}
	for _, g := range slices.Sorted(maps.Keys(s.Groups)) {
		for _, m := range s.Groups[g] {
			facts = append(facts, m+" is in group "+g)
		}
	}
	for _, k := range s.Release {
		facts = append(facts, "releases are signed with key "+k.Fingerprint())
	}
	for _, g := range s.Gateways {
		facts = append(facts, "gateway "+g.Name+" has key "+reviews.Key{Key: g.Key}.Fingerprint())
	}
	for _, v := range s.Revoked {
		fact := v.String() + " is revoked, and all that it approved is void"
		if v.Mode == "after" {
			fact = v.String() + " is revoked, and what it approved from " + stamp(v.At) + " on is void"
		}
		facts = append(facts, fact)
	}
	for _, t := range s.Tombstones {
		facts = append(facts, "the document with sha256 "+t.SHA256+" is closed for good")
	}
	return facts
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
