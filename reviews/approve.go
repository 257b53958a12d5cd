package reviews

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Pending is a document that still lacks approvals.
type Pending struct {
	Path   string `json:"path"`
	Kind   Kind   `json:"kind"`
	SHA256 string `json:"sha256"` // of the document
	Needs  []Need `json:"needs"`  // what is not met yet
	// Awaiting says that only approvals of its pull request may be missing, which
	// sync has not attested yet.
	Awaiting bool `json:"awaiting,omitempty"`
	// Ignored says which signatures are there and why they do not count.
	Ignored []string `json:"ignored,omitempty"`
}

// Need is a rule that is not met.
type Need struct {
	Rule      string   `json:"rule"`      // "approvals[0]" of the config, "threshold" of the trust root
	Threshold int      `json:"threshold"` // distinct principals
	Groups    []string `json:"groups"`
	OneOf     []string `json:"oneOf,omitempty"` // of these at least one
	Have      []string `json:"have"`            // principals who approved
	Eligible  []string `json:"eligible"`        // principals who have not, and whose approval would count
}

func (n Need) String() string {
	have := "has none"
	if len(n.Have) > 0 {
		have = fmt.Sprintf("has %d (%s)", len(n.Have), strings.Join(n.Have, ", "))
	}
	special := ""
	if len(n.OneOf) > 0 {
		special = " with one of " + strings.Join(n.OneOf, ", ")
	}
	return fmt.Sprintf("%s needs %d of %s%s, %s", n.Rule, n.Threshold, strings.Join(n.Groups, ", "), special, have)
}

// subject is a document whose approvals are counted.
type subject struct {
	kind       Kind
	source     *Source
	connection string            // of a review or connection
	risks      []string          // of that connection, now and before the change
	review     *Review           // of KindReview
	principal  string            // of KindPrincipal: its name
	excluded   map[string]string // principals who may not approve it, and why
}

// rule is an approval rule with the name that messages call it by.
type rule struct {
	name              string
	threshold         int
	groups, oneOf     []string
	forge, bots, auto bool
}

// voices are all who approved a document, by how.
type voices struct {
	signers, people, bots map[string]bool
	auto                  string // the automatic approval, "" for none
}

// errAwaiting closes a document that only lacks what its pull request can still
// bring: approvals that sync has not attested yet, or that are not given yet, or by
// accounts that the trust root does not know yet. It is in Tree.Pending and no problem.
var errAwaiting = errors.New("it awaits approvals of its pull request")

// approve verifies the signatures of a document, fills in Source.Approvals, and
// returns a Problems when rules are not met and approvals are required.
func (l *loader) approve(s subject) error {
	if why := l.tombstones[s.source.SHA256]; why != "" {
		return Problems{problemf(s.source.Path, "write it anew, or delete it", "%s closes these contents for good (%s)", RootPath, printable(why))}
	}
	if l.opt.Standing != nil && l.opt.Standing(s.source.Path, s.source.SHA256) {
		return nil
	}
	rules, err := l.rulesFor(s)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return nil // a catalog that no rule is for
	}
	heard, ignored := l.hear(&s, rules)
	var needs []Need
	approvals := make(map[string]bool)
	awaiting := s.kind != KindPolicy
	for _, r := range rules {
		need, met := l.count(r, s, heard)
		for _, name := range need.Have {
			approvals[name] = true
		}
		if !met {
			needs = append(needs, need)
			awaiting = awaiting && r.forge
		}
	}
	s.source.Approvals = slices.Sorted(maps.Keys(approvals))
	l.tree.Notes = append(l.tree.Notes, ignored...)
	if len(needs) == 0 {
		return nil
	}
	if awaiting || l.opt.Approvals == ReportApprovals {
		l.tree.Pending = append(l.tree.Pending, Pending{Path: s.source.Path, Kind: s.kind, SHA256: s.source.SHA256, Needs: needs, Awaiting: awaiting, Ignored: texts(ignored)})
	}
	switch {
	case l.opt.Approvals == ReportApprovals:
		return nil
	case awaiting:
		return errAwaiting
	}
	return Problems{notApproved(s, needs, ignored)}
}

// hear finds everybody who approved a document, and what does not count, with why.
func (l *loader) hear(s *subject, rules []rule) (voices, Problems) {
	var forge, auto bool
	for _, r := range rules {
		forge, auto = forge || r.forge, auto || r.auto
	}
	var heard voices
	var attestation Problems
	s.source.Attestation = nil
	if forge || l.tree.Config != nil && l.tree.Config.Spec.Forge.Kind != "" {
		statement, err := l.attested(*s)
		if err != nil {
			at := AttestationPath(s.source.SHA256)
			attestation = Problems{problemf(at, "sync attests the pull request again", "attestation %s does not count: %v", at, err)}
		} else if statement != nil {
			s.source.Attestation = statement.file
			var contributors map[string]bool
			heard.people, heard.bots, contributors = l.accounts(statement)
			attestation = l.strangers(statement, s.source.SHA256)
			s.excluded = maps.Clone(s.excluded)
			if s.excluded == nil {
				s.excluded = make(map[string]string)
			}
			for name := range contributors {
				s.excluded[name] = "it contributed to the pull request"
			}
		}
	}
	var ignored Problems
	heard.signers, ignored = l.signers(*s)
	if auto && s.kind == KindReview && l.opt.AutoApprove != nil {
		if l.judging != nil {
			l.judging.good = false // the answer stands on the parent release, which is no part of the foundation
		}
		heard.auto = l.opt.AutoApprove(s.review, l.tree.Connections[s.connection])
	}
	return heard, append(attestation, ignored...)
}

func notApproved(s subject, needs []Need, ignored Problems) Problem {
	message := "not approved:"
	eligible := make(map[string]bool)
	for i, n := range needs {
		if i > 0 {
			message += ";"
		}
		message += " " + n.String()
		for _, name := range n.Eligible {
			eligible[name] = true
		}
	}
	for _, why := range texts(ignored) {
		message += "; " + why
	}
	fix := "sallyport sign " + s.source.Path
	if len(eligible) > 0 {
		fix += " (by " + strings.Join(slices.Sorted(maps.Keys(eligible)), " or ") + ")"
	}
	return problemf(s.source.Path, fix, "%s", message)
}

func texts(ps Problems) []string {
	var list []string
	for _, p := range ps {
		list = append(list, p.Message)
	}
	return list
}

// rulesFor are the rules that a document has to meet: at least one, except that
// a catalog may have none.
func (l *loader) rulesFor(s subject) ([]rule, error) {
	switch s.kind {
	case KindRoot, KindConfig, KindRewind, KindExtension:
		return []rule{{name: "threshold", threshold: l.tree.Root.Spec.Threshold, groups: []string{"root"}}}, nil
	}
	if s.kind == KindPrincipal {
		for i, d := range l.tree.Root.Spec.Delegations {
			if matches(d.Principals, s.name()) {
				return []rule{{name: fmt.Sprintf("delegations[%d]", i), threshold: max(d.Threshold, 1), groups: []string{d.Group}}}, nil
			}
		}
	}
	var rules []rule
	unmask := s.review == nil || !s.review.Unmasks()
	for i, r := range l.tree.Config.Spec.Approvals {
		if r.Match.matches(s) {
			rules = append(rules, rule{fmt.Sprintf("approvals[%d]", i), r.Threshold, r.Groups, r.OneOf, r.Mode == "forge", r.Bots, r.Auto})
			unmask = unmask || r.Match.Unmask
		}
	}
	switch {
	case len(rules) == 0 && s.kind != KindCatalog:
		return nil, Problems{problemf(s.source.Path, "add a rule for it to spec.approvals of "+ConfigPath, "no approval rule matches this %s, so nobody can approve it", s.kind)}
	case !unmask:
		what, line := "unmask", s.source.Lines["unmask"]
		if len(s.review.Spec.Unmask) == 0 {
			what, line = "lookup", s.source.Lines["mask"]
		}
		at := Position{File: s.source.Path, Line: line}
		return nil, Problems{{Position: at, Message: "no approval rule is for reviews that unmask a column or let rows be looked up by one, so nobody can approve this", Fix: "add a rule with match: {unmask: true} to spec.approvals of " + ConfigPath + ", or delete " + what}}
	}
	return rules, nil
}

// name is the document's own: "agent:etl" for principals/agent_etl.yaml.
func (s subject) name() string {
	if s.kind == KindPrincipal {
		return s.principal
	}
	return s.source.Path
}

func (m ApprovalMatch) matches(s subject) bool {
	isOneOf := func(patterns []string, name string) bool {
		return name != "" && slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, name) })
	}
	switch {
	case (len(m.Kinds) > 0 || s.kind == KindCatalog) && !slices.Contains(m.Kinds, s.kind), // a rule for everything is not about catalogs
		len(m.Connections) > 0 && !isOneOf(m.Connections, s.connection),
		len(m.Paths) > 0 && !isOneOf(m.Paths, s.source.Path),
		len(m.Risks) > 0 && !slices.ContainsFunc(s.risks, func(risk string) bool { return slices.Contains(m.Risks, risk) }),
		len(m.Verbs) > 0 && (s.review == nil || !s.review.usesAny(m.Verbs)),
		m.Unmask && (s.review == nil || !s.review.Unmasks()):
		return false
	}
	return true
}

// usesAny says whether a rule of the review allows or holds one of the verbs.
func (r *Review) usesAny(verbs []string) bool {
	for _, rule := range slices.Concat(r.Spec.Allow, r.Spec.Hold) {
		for _, v := range rule.Verbs {
			if slices.Contains(verbs, v) {
				return true
			}
		}
	}
	return false
}

// count finds which members of a rule's groups approved, each once, and whether
// that is enough.
func (l *loader) count(r rule, s subject, heard voices) (need Need, met bool) {
	need = Need{Rule: r.name, Threshold: r.threshold, Groups: r.groups, OneOf: r.oneOf, Have: []string{}, Eligible: []string{}}
	approved := func(member string) bool {
		return heard.signers[member] || r.forge && (heard.people[member] || r.bots && heard.bots[member])
	}
	special := len(r.oneOf) == 0
	enough := 0
	groups, oneOf := l.tree.members(r.groups), l.tree.members(r.oneOf)
	for _, member := range l.tree.members(slices.Concat(r.groups, r.oneOf)) {
		switch {
		case s.excluded[member] != "":
		case approved(member):
			need.Have = append(need.Have, member)
			special = special || slices.Contains(oneOf, member)
			if slices.Contains(groups, member) { // the others are wanted, and do not make up the number
				enough++
			}
		case l.tree.keys.signs(member, l.opt.Now) || r.forge && l.tree.keys.vouches(member, l.opt.Now) == nil:
			need.Eligible = append(need.Eligible, member)
		}
	}
	if r.auto && heard.auto != "" {
		need.Have = append(need.Have, AutoApproval)
		enough++
	}
	return need, special && enough >= r.threshold
}

// AutoApproval stands among approvals for a rule of the policies that sync found true.
const AutoApproval = "policy:auto_approve"

// members are the distinct members of the groups, sorted.
func (t *Tree) members(groups []string) []string {
	all := make(map[string]bool)
	for _, g := range groups {
		for _, member := range t.Root.Spec.Groups[g] {
			all[member] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// signers are the principals with a good signature by a usable key, and the
// signatures that do not count, with why.
func (l *loader) signers(s subject) (map[string]bool, Problems) {
	signers := make(map[string]bool)
	var ignored Problems
	for _, name := range slices.Sorted(maps.Keys(s.source.Signatures)) {
		principal, err := l.signer(s, name)
		if err != nil {
			at := s.source.Path + sidecarSuffix + "/" + name
			ignored = append(ignored, problemf(at, "delete it, or sign again", "signature %s does not count: %v", shortSidecar(name), err))
			continue
		}
		signers[principal] = true
	}
	return signers, ignored
}

// shortSidecar names a signature in a sentence.
func shortSidecar(name string) string {
	m := sidecarForm.FindStringSubmatch(name)
	return m[1] + "." + m[2][:8] + "…"
}

// signer is the principal whose signature the sidecar holds. A file name is a
// claim; the key in the signature decides.
func (l *loader) signer(s subject, name string) (string, error) {
	key, err := l.verify(s, name)
	if err != nil {
		return "", err
	}
	digest := KeyDigest(key)
	owned, known := l.tree.keys.owners[digest]
	if !known {
		return "", fmt.Errorf("the key is not one of the trust root")
	}
	if name != fileName(owned.principal)+"."+digest+".sig" {
		return "", fmt.Errorf("it is by %s, and the file name says otherwise", owned.principal)
	}
	if err := l.tree.keys.stands(owned, l.seen(s.source.Signatures[name])); err != nil {
		return "", err
	}
	if why := s.excluded[owned.principal]; why != "" {
		return "", fmt.Errorf("%s may not approve this: %s", owned.principal, why)
	}
	return owned.principal, nil
}
