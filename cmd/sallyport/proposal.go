package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// proposal is a change that is not merged: what its documents are now, and what
// the access repo would be if it were merged this moment. It is judged under what
// is merged: a branch cannot bring the trust root, settings or policies that approve it.
type proposal struct {
	name   string // as people call it: "origin/request/orders-db/etl"
	branch string // without the remote; "" when it is no branch
	commit string
	author string
	when   time.Time // of the commit; whoever made it chose it, so it only sorts

	repo   *accessRepo
	merged *snapshot
	before *reviews.Tree // what is in force
	after  *reviews.Tree // merged, with the connections, principals and reviews of this change, and without other reviews
	rules  *reviews.Tree // after, with its policies too
	all    *reviews.Tree // after, with its trust root, settings and policies too
	paths  []string      // the documents it changes, sorted
	bytes  map[string][]byte
	// conflicts are files that were changed on both sides.
	conflicts []string
	catalogs  []string // catalogs it changes and no approval rule is for, so nobody signs them
	others    []string // files it changes that are no documents
	touched   map[string]bool
	unrelated bool // it shares no history with what is merged
}

// proposals finds and judges changes against one merged commit.
type proposals struct {
	repo   *accessRepo
	merged *snapshot
	files  fstest.MapFS // of the merged commit, without its reviews
	before *reviews.Tree
	cache  *reviews.Cache
	now    time.Time
	auto   func(*reviews.Review, *reviews.Connection) string // the merged policies' automatic approvals
}

func openProposals(ctx context.Context, repo *accessRepo, now time.Time) (*proposals, error) {
	merged, err := repo.merged(ctx)
	if err != nil {
		return nil, err
	}
	s := &proposals{repo: repo, merged: merged, files: fstest.MapFS{}, cache: reviews.NewCache(), now: now, auto: ci.AutoApproval(ctx, merged.files)}
	for path, f := range merged.files.(*treeFS).files {
		if !strings.HasPrefix(path, "reviews/") {
			s.files[path] = f
		}
	}
	s.before, err = reviews.Load(merged.files, reviews.LoadOptions{Now: now, Cache: s.cache, AutoApprove: s.auto})
	if s.before == nil || s.before.Root == nil {
		return nil, fmt.Errorf("the access repo at %s is not usable: %w", merged.ref, err)
	}
	if err != nil { // nothing is in force before trust root, settings and policies are approved
		s.before.Reviews = map[string]*reviews.Review{}
	}
	return s, nil
}

// branch is a branch of the clone or of its remote.
type branch struct {
	ref, name, commit string // name is without the remote
	author            string
	when              time.Time
}

// branches are those of the remote and of the clone, except for the one that is
// merged into and the audit branch. A local one that the remote has too, at the
// same commit, is left out.
func (s *proposals) branches(ctx context.Context) ([]branch, error) {
	git, remote := s.repo.git, s.repo.git.remote(ctx)
	patterns := []string{"refs/heads/"}
	if remote != "" {
		patterns = []string{"refs/remotes/" + remote + "/", "refs/heads/"}
	}
	audit := "audit"
	if s.before.Config != nil {
		audit = s.before.Config.Spec.Audit.Branch
	}
	var all []branch
	known := make(map[string]bool) // name and commit
	for _, pattern := range patterns {
		out, err := git.git(ctx, "for-each-ref", "--format=%(refname)%00%(objectname)%00%(committerdate:unix)%00%(authorname)%00%(symref)", pattern)
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(out, "\n") {
			f := strings.Split(line, "\x00")
			if len(f) != 5 || f[4] != "" {
				continue
			}
			b := branch{ref: shortRef(f[0]), name: strings.TrimPrefix(f[0], pattern), commit: f[1], author: f[3]}
			if seconds, err := strconv.ParseInt(f[2], 10, 64); err == nil {
				b.when = time.Unix(seconds, 0)
			}
			if b.name == s.repo.branch || b.name == audit || known[b.name+" "+b.commit] {
				continue
			}
			known[b.name+" "+b.commit] = true
			all = append(all, b)
		}
	}
	return all, nil
}

// open judges the change that a branch brings. nil: it changes no document.
func (s *proposals) open(ctx context.Context, b branch) (*proposal, error) {
	return s.openWith(ctx, b, nil)
}

// openWith is open for a branch with files that are not committed on it yet.
func (s *proposals) openWith(ctx context.Context, b branch, more fstest.MapFS) (*proposal, error) {
	p := &proposal{
		name: b.ref, branch: b.name, commit: b.commit, author: b.author, when: b.when,
		repo: s.repo, merged: s.merged, before: s.before, bytes: map[string][]byte{}, touched: map[string]bool{},
	}
	changed, err := s.changed(ctx, p)
	if err != nil || len(changed)+len(more) == 0 {
		return nil, err
	}
	head := fstest.MapFS{}
	if len(changed) > 0 {
		if head, err = s.repo.git.files(ctx, p.commit, foldersOf(changed)...); err != nil {
			return nil, err
		}
	}
	for path, f := range more {
		head[path] = f
		changed = append(changed, path)
	}
	if err := s.judge(p, changed, head); err != nil {
		return nil, err
	}
	if len(p.paths)+len(p.catalogs)+len(p.problems()) == 0 {
		return nil, nil
	}
	return p, nil
}

// foldersOf are the paths themselves, or the folders that they lie in when there
// are more than a command line takes.
func foldersOf(paths []string) []string {
	if len(paths) > 500 {
		return documentFolders
	}
	return paths
}

// changed are the paths in which the commit differs from where it left the merged branch.
func (s *proposals) changed(ctx context.Context, p *proposal) ([]string, error) {
	git := s.repo.git
	base, err := git.git(ctx, "merge-base", s.merged.commit, p.commit)
	if err != nil {
		base, p.unrelated = s.merged.commit, true
	}
	changed, err := git.diffNames(ctx, base, p.commit, documentFolders...)
	if err != nil {
		return nil, err
	}
	everything, err := git.diffNames(ctx, base, p.commit)
	if err != nil {
		return nil, err
	}
	p.others = missingIn(changed, everything)
	if base == s.merged.commit {
		return changed, nil
	}
	meanwhile, err := git.diffNames(ctx, base, s.merged.commit, documentFolders...)
	for _, path := range meanwhile {
		if _, both := slices.BinarySearch(changed, path); both {
			p.conflicts = append(p.conflicts, path)
		}
	}
	return changed, err
}

// signedDocument is the document that a path belongs to: itself, or what a sidecar signs.
func signedDocument(path string) string {
	document, _, _ := strings.Cut(path, ".sigs/")
	return document
}

// control says whether a path belongs to trust root, settings or policies.
func control(path string) bool {
	switch reviews.KindOf(signedDocument(path)) {
	case reviews.KindRoot, reviews.KindConfig, reviews.KindPolicy:
		return true
	}
	return strings.HasPrefix(path, "trust/") || strings.HasPrefix(path, "policies/")
}

// judge loads what would be there after a merge, in three steps: what is granted
// under the merged rules, the policies under the merged settings, and the rest.
func (s *proposals) judge(p *proposal, changed []string, head fstest.MapFS) error {
	base := maps.Clone(s.files)
	for _, path := range changed {
		s.bring(base, signedDocument(path))
	}
	files, rules, all := maps.Clone(base), maps.Clone(base), maps.Clone(base)
	documents := make(map[string]bool)
	controls := false
	for _, path := range changed {
		p.touched[path], p.touched[signedDocument(path)] = true, true
		overlay(all, path, head[path])
		if !control(path) {
			overlay(files, path, head[path])
		} else {
			controls = true
		}
		if !control(path) || reviews.KindOf(signedDocument(path)) == reviews.KindPolicy || strings.HasPrefix(path, "policies/") {
			overlay(rules, path, head[path])
		}
		if document := signedDocument(path); reviews.KindOf(document) != "" {
			documents[document] = documents[document] || document == path
		}
	}
	p.after = s.load(files)
	p.rules, p.all = p.after, p.after
	if controls {
		p.rules, p.all = s.load(rules), s.load(all)
	}
	if documents[reviews.RootPath] {
		p.succeed()
	}
	for document, itself := range documents {
		if reviews.KindOf(document) == reviews.KindCatalog && !p.ruled(document) {
			if itself {
				p.catalogs = append(p.catalogs, document)
			}
			continue
		}
		if itself || p.pending(document) != nil || (len(s.source(document)) == 0 && all[document] != nil) {
			p.paths = append(p.paths, document)
		}
		if f := all[document]; f != nil {
			p.bytes[document] = f.Data
		}
	}
	slices.Sort(p.paths)
	slices.Sort(p.catalogs)
	if p.after.Root == nil {
		return errors.New("the merged trust root cannot be read")
	}
	return nil
}

// succeed holds a new trust root to the merged one, which has to approve it as well as the new one itself.
func (p *proposal) succeed() {
	next := p.all.Root
	if next == nil || p.before.Root == nil || next.Source.SHA256 == p.before.Root.Source.SHA256 {
		return
	}
	wrong, need := ci.Succession(p.before, next)
	p.all.Problems = append(p.all.Problems, wrong...)
	if len(need.Have) >= need.Threshold {
		return
	}
	for i, pending := range p.all.Pending {
		if pending.Path == reviews.RootPath {
			p.all.Pending[i].Needs = append(slices.Clone(pending.Needs), need)
			return
		}
	}
	p.all.Pending = append(p.all.Pending, reviews.Pending{Path: reviews.RootPath, Kind: reviews.KindRoot, Needs: []reviews.Need{need}})
}

// ruled tells whether an approval rule is for a catalog.
func (p *proposal) ruled(catalog string) bool {
	name := documentName(catalog)
	for _, tree := range []*reviews.Tree{p.before, p.after} {
		if c := tree.Connections[name]; c != nil && c.CatalogSource.Path != "" {
			return true
		}
	}
	return false
}

// bring adds a merged document and its signatures to files.
func (s *proposals) bring(files fstest.MapFS, document string) {
	merged := s.merged.files.(*treeFS)
	for _, path := range append(below(merged, document+".sigs"), document) {
		if f := merged.files[path]; f != nil {
			files[path] = f
		}
	}
}

// source are the bytes of a document that is in force, nil when it is not.
func (s *proposals) source(path string) []byte {
	if source := sourceIn(s.before, path); source != nil {
		return source.Bytes
	}
	return nil
}

// sourceIn finds a document in a tree by its path.
func sourceIn(t *reviews.Tree, path string) *reviews.Source {
	switch kind := reviews.KindOf(path); kind {
	case reviews.KindRoot:
		if t.Root != nil {
			return &t.Root.Source
		}
	case reviews.KindConfig:
		if t.Config != nil {
			return &t.Config.Source
		}
	case reviews.KindPolicy:
		if p := t.Policies[path]; p != nil {
			return &p.Source
		}
	case reviews.KindReview:
		if r := t.Reviews[documentName(path)]; r != nil {
			return &r.Source
		}
	case reviews.KindConnection:
		if c := t.Connections[documentName(path)]; c != nil {
			return &c.Source
		}
	case reviews.KindCatalog:
		if c := t.Connections[documentName(path)]; c != nil && c.Catalog != nil && c.CatalogSource.Path != "" {
			return &c.CatalogSource
		}
	case reviews.KindPrincipal:
		for _, p := range t.Principals {
			if p.Source.Path == path {
				return &p.Source
			}
		}
	}
	return nil
}

// documentName is a path without its folder and suffix.
func documentName(path string) string {
	_, name, _ := strings.Cut(path, "/")
	return strings.TrimSuffix(strings.TrimSuffix(name, ".yaml"), ".catalog.json")
}

// overlay writes a file into a tree, or takes it out.
func overlay(files fstest.MapFS, path string, f *fstest.MapFile) {
	if f == nil {
		delete(files, path)
		return
	}
	files[path] = f
}

// load keeps what lacks approvals, and lists it. The error of a tree that grants
// nothing is in its problems.
func (s *proposals) load(files fstest.MapFS) *reviews.Tree {
	tree, _ := reviews.Load(newTreeFS(files), reviews.LoadOptions{Now: s.now, Approvals: reviews.ReportApprovals, Cache: s.cache, AutoApprove: s.auto})
	return tree
}

// judging is the tree under which a document's approvals are counted.
func (p *proposal) judging(path string) *reviews.Tree {
	switch reviews.KindOf(path) {
	case reviews.KindPolicy:
		return p.rules
	case reviews.KindRoot, reviews.KindConfig:
		return p.all
	}
	return p.after
}

// pending is what a document still lacks, nil when it lacks nothing.
func (p *proposal) pending(path string) *reviews.Pending {
	for _, pending := range p.judging(path).Pending {
		if pending.Path == path {
			return &pending
		}
	}
	return nil
}

// problems are those of the files that the change touches, also of ones that are
// not where documents belong.
func (p *proposal) problems() reviews.Problems {
	var found reviews.Problems
	seen := make(map[string]bool)
	for _, tree := range []*reviews.Tree{p.after, p.rules, p.all} {
		for _, problem := range tree.Problems {
			document := signedDocument(problem.File)
			if !p.touched[document] && !p.touched[problem.File] || p.judging(document) != tree || seen[problem.Error()] {
				continue
			}
			seen[problem.Error()] = true
			found = append(found, problem)
		}
	}
	return found
}

// awaiting are the documents that one more approval, by this principal, would
// bring forward. as "": by anybody.
func (p *proposal) awaiting(as string) []string {
	var paths []string
	for _, path := range p.paths {
		pending := p.pending(path)
		if pending == nil {
			continue
		}
		if as == "" || slices.ContainsFunc(pending.Needs, func(n reviews.Need) bool { return slices.Contains(n.Eligible, as) }) {
			paths = append(paths, path)
		}
	}
	return paths
}

// risk is the highest of what the change touches. Without a label a connection
// counts as high, and what decides about everything else comes first.
func (p *proposal) risk() string {
	highest := "low"
	for _, path := range append(slices.Clone(p.paths), p.catalogs...) {
		risk := p.riskOf(path)
		highest = higher(highest, risk)
	}
	return highest
}

// riskRank orders risks. A label that this program does not know counts as unlabelled.
func riskRank(risk string) int {
	switch risk {
	case "low":
		return 0
	case "medium":
		return 1
	case "high":
		return 2
	case "trust":
		return 4
	}
	return 3
}

func (p *proposal) riskOf(path string) string {
	name := ""
	switch kind := reviews.KindOf(path); kind {
	case reviews.KindRoot, reviews.KindConfig, reviews.KindPolicy:
		return "trust"
	case reviews.KindConnection, reviews.KindCatalog:
		name = documentName(path)
	case reviews.KindReview:
		name, _, _ = strings.Cut(documentName(path), "/")
	case reviews.KindPrincipal:
		return p.riskOfPrincipal(path)
	}
	before, after := p.before.Connections[name], p.after.Connections[name]
	if before == nil && after == nil {
		return "unlabelled"
	}
	return higher(labelOf(before), labelOf(after)) // a change does not lower its own risk
}

// riskOfPrincipal is the highest of what the principal reaches.
func (p *proposal) riskOfPrincipal(path string) string {
	highest := "low"
	for _, tree := range []*reviews.Tree{p.before, p.after} {
		for _, r := range tree.Reviews {
			if reviews.PathOf(reviews.KindPrincipal, r.Spec.Subject) == path {
				highest = higher(highest, higher(labelOf(p.before.Connections[r.Spec.Connection]), labelOf(p.after.Connections[r.Spec.Connection])))
			}
		}
	}
	return highest
}

func higher(a, b string) string {
	if riskRank(b) > riskRank(a) {
		return b
	}
	return a
}

func labelOf(c *reviews.Connection) string {
	switch {
	case c == nil:
		return "low" // the other side of the change knows
	case c.Spec.Risk == "":
		return "unlabelled"
	}
	return c.Spec.Risk
}
