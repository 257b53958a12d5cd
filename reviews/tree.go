package reviews

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

// ApprovalCheck says what to make of a document that lacks approvals.
type ApprovalCheck int

const (
	// RequireApprovals leaves it out and reports a problem. This is the zero value.
	RequireApprovals ApprovalCheck = iota
	// ReportApprovals keeps it and lists it in Tree.Pending. It is for looking at a
	// pull request, never for granting anything.
	ReportApprovals
)

// LoadOptions say how to load a tree.
type LoadOptions struct {
	Now       time.Time // decides which keys are usable; required
	Approvals ApprovalCheck
	// Cache remembers what did not change since the last load. Optional.
	Cache *Cache
	// Seen is when a signature or attestation was first seen, by the sha256 of its
	// file in lower-case hex: keys count as they stood then. Without it, or when it
	// returns the zero time, that is Now.
	Seen func(sha256 string) time.Time
	// RiskBefore is the risk label of the connection's version in force, when a
	// newer one is judged: a change that lowers the risk needs what the higher one asks for. Optional.
	RiskBefore func(connection string) string
	// OwnerBefore is the owner that the principal's version in force names, when a
	// newer one is judged: who gives an agent away does not approve that. Optional.
	OwnerBefore func(principal string) string
	// AutoApprove names the automatic approval that policies give a review, ""
	// when they give none. Without it there is none.
	AutoApprove func(*Review, *Connection) string
	// Standing says that a version of a document, by its path and sha256, is in
	// force already: its approvals are not counted again. Tombstones apply all the same. Optional.
	Standing func(path, sha256 string) bool
	// Judged makes the Load lean, for trees of 100,000 reviews: those are in Tree.Folders
	// alone, and are kept packed. It is called, concurrently, with each folder that was
	// judged anew and in which everything is well, before that is packed. Optional.
	Judged func(*Connection, *Folder)
}

// seen is when a file was first seen.
func (o *LoadOptions) seen(b []byte) time.Time {
	if o.Seen != nil {
		if at := o.Seen(hexDigest(b)); !at.IsZero() {
			return at
		}
	}
	return o.Now
}

// Tree is an access repo at one commit.
type Tree struct {
	Repo        string // uuid
	Root        *Root
	Config      *Config
	Principals  map[string]*Principal // of principals/; those of the trust root are in Root
	Connections map[string]*Connection
	Reviews     map[string]*Review     // empty after a lean Load
	Folders     map[string]*Folder     // by connection, after a lean Load; nil otherwise
	Policies    map[string]*PolicyFile // by path
	// Problems is everything that is wrong. A document with a problem is not in the maps above.
	Problems Problems
	// Notes is what does not count but closes nothing: signatures of other bytes
	// or by keys that may not approve, and files that belong to nothing.
	Notes Problems
	// Pending lists what still lacks approvals: all of it under ReportApprovals,
	// otherwise what only waits for approvals of its pull request.
	Pending []Pending

	now  time.Time
	keys keyring
}

// PolicyFile is one file of policies/: Rego, signed like a document.
type PolicyFile struct {
	Path   string
	Source Source
}

// IsTest reports whether the file holds the owner's tests.
func (p *PolicyFile) IsTest() bool { return strings.HasSuffix(p.Path, "_test.rego") }

// Load reads the access repo in fsys. A bad review, connection or principal is
// left out and reported in Tree.Problems: it closes its own name. The error, a
// Problems, is for what nothing can be granted under: a trust root, config or policy
// that is missing, wrong or not approved. The tree comes with an error too, for reports.
func Load(fsys fs.FS, opt LoadOptions) (*Tree, error) {
	if opt.Now.IsZero() {
		return nil, errors.New("reviews: Load needs the time")
	}
	if opt.Cache == nil {
		opt.Cache = NewCache()
	}
	l := &loader{fsys: fsys, opt: opt, tree: newTree(opt.Now)}
	if opt.Judged != nil {
		l.tree.Folders = make(map[string]*Folder)
	}
	defer func() { opt.Cache.turn(l.folders) }()
	l.top()
	if l.trust() {
		l.principals()
		l.connections()
		l.policies()
		l.reviews()
	}
	t := l.tree
	t.Problems = append(t.Problems, l.fatal...)
	t.Problems.Sort()
	t.Problems = slices.Compact(t.Problems)
	t.Notes.Sort()
	slices.SortFunc(t.Pending, func(a, b Pending) int { return strings.Compare(a.Path, b.Path) })
	l.fatal.Sort()
	return t, l.fatal.Err()
}

func newTree(now time.Time) *Tree {
	return &Tree{
		Principals:  make(map[string]*Principal),
		Connections: make(map[string]*Connection),
		Reviews:     make(map[string]*Review),
		Policies:    make(map[string]*PolicyFile),
		now:         now,
	}
}

// Keys are the keys that principal may use at the time of the load, whether the
// trust root or principals/ lists them: not revoked, not expired, valid already.
func (t *Tree) Keys(principal string) []Key {
	var usable []Key
	for _, k := range t.listed(principal) {
		if t.keys.usable(principal, k, t.now) == nil {
			usable = append(usable, k)
		}
	}
	return usable
}

func (t *Tree) listed(principal string) []Key {
	if p := t.Principals[principal]; p != nil {
		return p.Spec.Keys
	}
	if t.Root != nil {
		for _, p := range t.Root.Spec.Principals {
			if p.Name == principal {
				return p.Keys
			}
		}
	}
	return nil
}

// Exists reports whether the trust root or principals/ knows the principal.
func (t *Tree) Exists(principal string) bool {
	return t.Principals[principal] != nil || t.keys.principals[principal]
}

// PrincipalNames are all principals, of the trust root and of principals/, sorted.
func (t *Tree) PrincipalNames() []string {
	names := maps.Clone(t.keys.principals)
	if names == nil {
		names = make(map[string]bool)
	}
	for name := range t.Principals {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Owner is the person who answers for a principal, "" when it has none.
func (t *Tree) Owner(principal string) string {
	if p := t.Principals[principal]; p != nil {
		return p.Spec.Owner
	}
	return ""
}

// loader is the state of one Load.
type loader struct {
	fsys       fs.FS
	opt        LoadOptions
	tree       *Tree
	tombstones map[string]string // sha256 of a document to why it is closed
	folders    map[string]*Folder
	judging    *Folder // whose reviews are being judged
	fatal      Problems
}

func (l *loader) problems(err error) {
	var ps Problems
	if errors.As(err, &ps) {
		l.tree.Problems = append(l.tree.Problems, ps...)
	} else if err != nil && err != errAwaiting {
		l.tree.Problems = append(l.tree.Problems, Problem{Message: err.Error()})
	}
}

func (l *loader) fail(err error) {
	var ps Problems
	if errors.As(err, &ps) {
		l.fatal = append(l.fatal, ps...)
	} else if err != nil {
		l.fatal = append(l.fatal, Problem{Message: err.Error()})
	}
}

// trust loads the trust root and the config. It reports whether the rest can be judged.
func (l *loader) trust() bool {
	rootBytes, rootSigs, err := l.read(RootPath)
	if err != nil {
		l.fail(err)
		return false
	}
	root, err := ParseRoot(RootPath, rootBytes)
	if err != nil {
		l.fail(err)
		return false
	}
	l.trustIn(root)
	root.Source.Signatures = rootSigs
	l.fail(l.approve(subject{kind: KindRoot, source: &root.Source}))

	configBytes, configSigs, err := l.read(ConfigPath)
	if err != nil {
		l.fail(err)
		return false
	}
	config, err := ParseConfig(ConfigPath, configBytes)
	if err != nil {
		l.fail(err)
		return false
	}
	l.tree.Config = config
	config.Source.Signatures = configSigs
	l.fail(l.approve(subject{kind: KindConfig, source: &config.Source}))
	l.fail(l.crossConfig(config).Err())
	return true
}

// trustIn takes a trust root as what keys and accounts are judged by.
func (l *loader) trustIn(root *Root) {
	l.tree.Root, l.tree.Repo, l.tree.keys = root, root.Metadata.Repo, newKeyring(root)
	l.tombstones = make(map[string]string)
	for _, t := range root.Spec.Tombstones {
		l.tombstones[t.SHA256] = t.Reason
	}
}

// crossConfig checks the config against the trust root.
func (l *loader) crossConfig(config *Config) Problems {
	c := l.cross(KindConfig, config.Metadata, &config.Source)
	groups := l.tree.Root.Spec.Groups
	for i, rule := range config.Spec.Approvals {
		members := make(map[string]bool)
		for _, group := range slices.Concat(rule.Groups, rule.OneOf) {
			if _, there := groups[group]; !there {
				c.line(fmt.Sprintf("approvals[%d]", i), fmt.Sprintf("group %s is not in %s", group, RootPath), strictyaml.Suggest(group, slices.Collect(maps.Keys(groups))))
			}
			for _, m := range groups[group] {
				members[m] = true
			}
		}
		if rule.Threshold > len(members) {
			c.line(fmt.Sprintf("approvals[%d]", i), fmt.Sprintf("threshold %d cannot be met: its groups have %d members", rule.Threshold, len(members)), "lower it, or add members in "+RootPath)
		}
	}
	known := make(map[string]bool)
	for _, g := range l.tree.Root.Spec.Gateways {
		known[g.Name] = true
	}
	for i, g := range config.Spec.Gateways {
		if !known[g.Name] {
			c.line(fmt.Sprintf("gateways[%d]", i), fmt.Sprintf("gateway %s has no key in %s", g.Name, RootPath), "add it to spec.gateways there")
		}
	}
	return c.problems
}

// principals loads principals/. A key that two principals claim closes both.
func (l *loader) principals() {
	owners := make(map[string][]*Principal)
	for _, f := range l.files(principalsFolder, KindPrincipal) {
		b, sigs, err := l.read(f)
		if err != nil {
			l.problems(err)
			continue
		}
		p, err := ParsePrincipal(f, b)
		if err != nil {
			l.problems(err)
			continue
		}
		p.Source.Signatures = sigs
		if !l.admitPrincipal(p) {
			continue
		}
		l.tree.Principals[p.Metadata.Name] = p
		for _, k := range p.Spec.Keys {
			digest := k.digest()
			owners[digest] = append(owners[digest], p)
		}
	}
	l.sharedKeys(owners)
	l.owners()
}

func (l *loader) admitPrincipal(p *Principal) bool {
	c := l.cross(KindPrincipal, p.Metadata, &p.Source)
	if l.tree.keys.principals[p.Metadata.Name] {
		c.line("", fmt.Sprintf("%s is a principal of the trust root, and its keys belong there", p.Metadata.Name), "delete this file")
	}
	for i, k := range p.Spec.Keys {
		if owner := l.tree.keys.owner(k.digest()); owner != "" && owner != p.Metadata.Name {
			c.line("keys", fmt.Sprintf("keys[%d] is already a key of %s in %s", i, owner, RootPath), "use a key of its own")
		}
	}
	l.tree.Problems = append(l.tree.Problems, c.problems...)
	if len(c.problems) > 0 {
		return false
	}
	excluded := map[string]string{p.Metadata.Name: "it is about itself", p.Spec.Owner: "it is the owner"}
	if l.opt.OwnerBefore != nil {
		if before := l.opt.OwnerBefore(p.Metadata.Name); before != p.Spec.Owner {
			excluded[before] = "it was the owner before this change"
		}
	}
	err := l.approve(subject{kind: KindPrincipal, source: &p.Source, principal: p.Metadata.Name, excluded: excluded})
	l.problems(err)
	return err == nil
}

func (l *loader) sharedKeys(owners map[string][]*Principal) {
	for _, claimants := range owners {
		if len(claimants) < 2 {
			continue
		}
		for _, p := range claimants {
			other := claimants[0]
			if other == p {
				other = claimants[1]
			}
			l.tree.Problems = append(l.tree.Problems, problemf(p.Source.Path, "give each principal a key of its own", "it shares a key with %s", other.Metadata.Name))
			delete(l.tree.Principals, p.Metadata.Name)
		}
	}
}

// owners closes principals whose owner is nobody.
func (l *loader) owners() {
	var orphans []*Principal
	for _, p := range l.tree.Principals {
		if p.Spec.Owner != "" && !l.tree.Exists(p.Spec.Owner) {
			orphans = append(orphans, p)
		}
	}
	for _, p := range orphans {
		c := l.cross(KindPrincipal, p.Metadata, &p.Source)
		c.line("owner", fmt.Sprintf("owner %s is not a principal", p.Spec.Owner), "add it to "+RootPath+" or as "+PathOf(KindPrincipal, p.Spec.Owner))
		l.tree.Problems = append(l.tree.Problems, c.problems...)
		delete(l.tree.Principals, p.Metadata.Name)
	}
}

func (l *loader) connections() {
	for _, f := range l.files(connectionsFolder, KindConnection) {
		b, sigs, err := l.read(f)
		if err != nil {
			l.problems(err)
			continue
		}
		conn, err := ParseConnection(f, b)
		if err != nil {
			l.problems(err)
			continue
		}
		conn.Source.Signatures = sigs
		if ps := l.cross(KindConnection, conn.Metadata, &conn.Source).problems; len(ps) > 0 {
			l.problems(ps)
			continue
		}
		if err := l.approve(subject{kind: KindConnection, source: &conn.Source, connection: conn.Metadata.Name, risks: l.risks(conn)}); err != nil {
			l.problems(err)
			continue
		}
		l.problems(l.catalog(conn))
		l.tree.Connections[conn.Metadata.Name] = conn
	}
}

// risks are the labels by which a connection and its reviews are judged.
func (l *loader) risks(c *Connection) []string {
	risks := []string{c.Spec.Risk}
	if l.opt.RiskBefore != nil {
		risks = append(risks, l.opt.RiskBefore(c.Metadata.Name))
	}
	return slices.DeleteFunc(risks, func(risk string) bool { return risk == "" })
}

// policies loads policies/. Nothing may be granted when one of them is bad: what
// it denies would slip through.
func (l *loader) policies() {
	before := len(l.tree.Problems)
	files := l.files(policiesFolder, KindPolicy)
	for _, p := range l.tree.Problems[before:] {
		if strings.HasSuffix(p.File, ".rego") { // it may be what somebody thinks denies
			l.fail(Problems{p})
		}
	}
	for _, f := range files {
		b, sigs, err := l.read(f)
		if err == nil {
			err = strictyaml.CheckText(f, b, MaxDocument).Err()
		}
		if err != nil {
			l.fail(err)
			continue
		}
		p := &PolicyFile{Path: f, Source: (&checker{path: f, bytes: b}).source()}
		p.Source.Signatures = sigs
		want := PolicyHeader(l.tree.Repo, f)
		if first, _, _ := strings.Cut(string(b), "\n"); first != want {
			l.fail(Problems{{Position: Position{File: f, Line: 1, Column: 1}, Message: "the first line has to bind the file to this repository and path", Fix: "write: " + want}})
			continue
		}
		if err := l.approve(subject{kind: KindPolicy, source: &p.Source}); err != nil {
			l.fail(err)
			continue
		}
		l.tree.Policies[f] = p
		if !p.IsTest() && !slices.Contains(l.tree.Config.Spec.Policies, path.Base(f)) {
			l.tree.Notes = append(l.tree.Notes, problemf(f, "list it in spec.policies of "+ConfigPath+", so that removing it needs an approval", "a merge alone can delete this policy"))
		}
	}
	for i, name := range l.tree.Config.Spec.Policies {
		if _, err := fs.Stat(l.fsys, policiesFolder+"/"+name); err != nil {
			c := l.cross(KindConfig, l.tree.Config.Metadata, &l.tree.Config.Source)
			c.line("policies", fmt.Sprintf("policies[%d]: %s/%s is missing", i, policiesFolder, name), "bring it back, or remove it from this list with the approvals that needs")
			l.fail(c.problems)
		}
	}
}

// PolicyHeader is the first line of a policy file, which binds its bytes to one
// repository and path.
func PolicyHeader(repo, path string) string { return "# sallyport: " + repo + " " + path }

func (l *loader) approveReview(r *Review) error {
	excluded := map[string]string{
		l.principal(r.Spec.Requester).owner: "it is the requester's owner",
		l.principal(r.Spec.Subject).owner:   "it is the subject's owner",
		r.Spec.Subject:                      "it is the subject",
		r.Spec.Requester:                    "it is the requester",
	}
	return l.approve(subject{
		kind: KindReview, source: &r.Source, review: r, connection: r.Spec.Connection,
		risks: l.risks(l.tree.Connections[r.Spec.Connection]), excluded: excluded,
	})
}

// crossReview checks a review against the rest of the tree.
func (l *loader) crossReview(r *Review) Problems {
	c := l.cross(KindReview, r.Metadata, &r.Source)
	conn := l.tree.Connections[r.Spec.Connection]
	if conn == nil {
		c.line("connection", fmt.Sprintf("connection %s is not there or has problems", r.Spec.Connection), strictyaml.Suggest(r.Spec.Connection, slices.Collect(maps.Keys(l.tree.Connections))))
	}
	for _, who := range []struct{ field, name string }{{"requester", r.Spec.Requester}, {"subject", r.Spec.Subject}} {
		if !l.principal(who.name).exists {
			c.line(who.field, fmt.Sprintf("%s %s is not a principal of this repository or has problems", who.field, who.name), "add "+PathOf(KindPrincipal, who.name)+", or correct the name")
		}
	}
	most := l.tree.Config.Spec.MaxReviewLifetime.Std()
	if life := r.Spec.Validity.Expires.Sub(r.Spec.Validity.NotBefore); life > most {
		c.line("validity", fmt.Sprintf("the review would last %s, at most %s is allowed", Duration(life), Duration(most)), "bring expires closer to notBefore")
	}
	if conn != nil {
		c.protocol(conn.Spec.Protocol, r)
		masked := make(map[string]string)
		for _, m := range conn.Spec.Mask {
			masked[m.Names()] = m.With
		}
		for i, column := range r.Spec.Unmask {
			if masked[column] == "" {
				c.line(fmt.Sprintf("unmask[%d]", i), fmt.Sprintf("connection %s does not mask %s", r.Spec.Connection, column), "delete it")
			}
		}
		for i, m := range r.Spec.Mask {
			if with, already := masked[m.Names()]; already && !(m.Lookup && m.With == with) {
				c.line(fmt.Sprintf("mask[%d]", i), fmt.Sprintf("the connection already masks %s with %s", m.Names(), with), "delete it here, a review only adds masks; or say the same mask with lookup: true")
			}
		}
	}
	return c.problems
}

// crossCheck collects problems that only the rest of the tree shows.
type crossCheck struct {
	source   *Source
	problems Problems
}

// cross starts one, with the check that all documents share.
func (l *loader) cross(kind Kind, metadata Metadata, source *Source) *crossCheck {
	c := &crossCheck{source: source}
	if metadata.Repo != l.tree.Repo {
		c.line("", fmt.Sprintf("the %s belongs to repository %s, but this is %s", kind, quote(metadata.Repo), l.tree.Repo), "write it anew for this repository and have it signed")
	}
	return c
}

// line reports a problem at an element of spec.
func (c *crossCheck) line(element, message, fix string) {
	at := Position{File: c.source.Path, Line: c.source.Lines[element]}
	c.problems = append(c.problems, Problem{Position: at, Message: message, Fix: fix})
}
