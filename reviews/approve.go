package reviews

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Pending is a document that still lacks approvals.
type Pending struct {
	Path  string `json:"path"`
	Kind  Kind   `json:"kind"`
	Needs []Need `json:"needs"` // what is not met yet
	// Ignored says which signatures are there and why they do not count.
	Ignored []string `json:"ignored,omitempty"`
}

// Need is a rule that is not met.
type Need struct {
	Rule      string   `json:"rule"`      // "approvals[0]" of the config, "threshold" of the trust root
	Threshold int      `json:"threshold"` // distinct principals
	Groups    []string `json:"groups"`
	Have      []string `json:"have"`     // principals who approved
	Eligible  []string `json:"eligible"` // principals who have not, and whose approval would count
}

func (n Need) String() string {
	have := "has none"
	if len(n.Have) > 0 {
		have = fmt.Sprintf("has %d (%s)", len(n.Have), strings.Join(n.Have, ", "))
	}
	return fmt.Sprintf("%s needs %d of %s, %s", n.Rule, n.Threshold, strings.Join(n.Groups, ", "), have)
}

// keyring is what the trust root says about keys. Only its keys approve.
type keyring struct {
	owners     map[string]ownedKey // by key digest
	revoked    map[string]string   // fingerprint to reason
	principals map[string]bool
}

type ownedKey struct {
	principal   string
	key         Key
	fingerprint string
}

func newKeyring(root *Root) keyring {
	ring := keyring{owners: make(map[string]ownedKey), revoked: make(map[string]string), principals: make(map[string]bool)}
	for _, p := range root.Spec.Principals {
		ring.principals[p.Name] = true
		for _, k := range p.Keys {
			ring.owners[k.digest()] = ownedKey{p.Name, k, k.Fingerprint()}
		}
	}
	for _, r := range root.Spec.Revoked {
		ring.revoked[r.Fingerprint] = r.Reason
	}
	return ring
}

func (r keyring) owner(digest string) string { return r.owners[digest].principal }

// usable is nil when the key of that fingerprint may be used at that time,
// otherwise why not.
func (r keyring) usable(k Key, fingerprint string, now time.Time) error {
	if reason, is := r.revoked[fingerprint]; is {
		return fmt.Errorf("the key is revoked (%s)", printable(reason))
	}
	return k.Usable(now)
}

// subject is a document whose approvals are counted.
type subject struct {
	kind       Kind
	source     *Source
	connection string            // of a review or connection
	excluded   map[string]string // principals who may not approve it, and why
}

// rule is an approval rule with the name that messages call it by.
type rule struct {
	name      string
	threshold int
	groups    []string
}

// approve verifies the signatures of a document, fills in Source.Approvals, and
// returns a Problems when rules are not met and approvals are required.
func (l *loader) approve(s subject) error {
	rules := l.rulesFor(s)
	if len(rules) == 0 {
		return Problems{problemf(s.source.Path, "add a rule for it to spec.approvals of "+ConfigPath, "no approval rule matches this %s, so nobody can approve it", s.kind)}
	}
	signers, ignored := l.signers(s)
	var needs []Need
	approvals := make(map[string]bool)
	for _, r := range rules {
		need := l.count(r, s, signers)
		for _, name := range need.Have {
			approvals[name] = true
		}
		if len(need.Have) < r.threshold {
			needs = append(needs, need)
		}
	}
	s.source.Approvals = slices.Sorted(maps.Keys(approvals))
	l.tree.Notes = append(l.tree.Notes, ignored...)
	if len(needs) == 0 {
		return nil
	}
	if l.opt.Approvals == ReportApprovals {
		l.tree.Pending = append(l.tree.Pending, Pending{Path: s.source.Path, Kind: s.kind, Needs: needs, Ignored: texts(ignored)})
		return nil
	}
	return Problems{notApproved(s, needs, ignored)}
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

func (l *loader) rulesFor(s subject) []rule {
	if s.kind == KindRoot || s.kind == KindConfig {
		return []rule{{"threshold", l.tree.Root.Spec.Threshold, []string{"root"}}}
	}
	var rules []rule
	for i, r := range l.tree.Config.Spec.Approvals {
		if r.Match.matches(s.kind, s.connection) {
			rules = append(rules, rule{fmt.Sprintf("approvals[%d]", i), r.Threshold, r.Groups})
		}
	}
	return rules
}

func (m ApprovalMatch) matches(kind Kind, connection string) bool {
	if len(m.Kinds) > 0 && !slices.Contains(m.Kinds, kind) {
		return false
	}
	if len(m.Connections) == 0 {
		return true
	}
	return connection != "" && slices.ContainsFunc(m.Connections, func(pattern string) bool { return matches(pattern, connection) })
}

// count finds which members of a rule's groups approved, each once.
func (l *loader) count(r rule, s subject, signers map[string]bool) Need {
	need := Need{Rule: r.name, Threshold: r.threshold, Groups: r.groups, Have: []string{}, Eligible: []string{}}
	for _, member := range l.tree.members(r.groups) {
		switch {
		case s.excluded[member] != "":
		case signers[member]:
			need.Have = append(need.Have, member)
		default:
			need.Eligible = append(need.Eligible, member)
		}
	}
	return need
}

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
	key, err := l.opt.Cache.verify(s.source.Signatures[name], NamespaceFor(s.kind), s.source.Bytes)
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
	if err := l.tree.keys.usable(owned.key, owned.fingerprint, l.opt.Now); err != nil {
		return "", err
	}
	if why := s.excluded[owned.principal]; why != "" {
		return "", fmt.Errorf("%s may not approve this: %s", owned.principal, why)
	}
	return owned.principal, nil
}
