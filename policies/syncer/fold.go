package syncer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// fold takes commits in, oldest first. What it makes of them depends on
// nothing but the commits themselves and on when they were first seen.
type fold struct {
	mirror *gitrepo.Mirror
	audit  fs.FS  // holds attestations; nil when there are none
	state  *state // its own copy
	tree   *gitrepo.Tree
	now    time.Time
	cache  *reviews.Cache
	// head is where the fold ends. Its reviews are loaded next, so parsing one of
	// them is remembered in parsed, where that load looks.
	head   *gitrepo.Tree
	parsed *reviews.Cache
}

// newFold begins at the state's commit, to end at head.
func (s *Syncer) newFold(head string) (*fold, error) {
	f := &fold{mirror: s.mirror, state: s.state.clone(), now: s.opt.Now(), cache: reviews.NewCache(), parsed: s.cache, audit: s.audit.files()}
	var err error
	if f.head, err = treeOf(s.mirror, head); err != nil || f.state.Commit == "" {
		return f, err
	}
	from := f.state.Commit
	if f.state.Skipped {
		from = f.state.Compared
	}
	if from != "" {
		f.tree, err = treeOf(s.mirror, from)
	}
	return f, err
}

func treeOf(m *gitrepo.Mirror, commit string) (*gitrepo.Tree, error) {
	c, err := m.Commit(commit)
	if err != nil {
		return nil, err
	}
	return m.Tree(c), nil
}

// step takes in one commit: first its trust, config and policies, then the
// documents that it touched.
func (f *fold) step(ctx context.Context, c *gitrepo.Commit) error {
	tree := f.mirror.Tree(c)
	changes, err := diff(f.tree, tree)
	if errors.Is(err, gitrepo.ErrTooMuch) {
		f.skip(c, tree, err)
		return nil
	}
	if err != nil {
		return err
	}
	touched, base := sortOut(changes)
	for _, doc := range f.state.Missed {
		touched[doc] = true
	}
	docs := slices.Sorted(maps.Keys(touched)) // folder by folder, for the store remembers some folders only
	parsed := f.parseAhead(tree, docs)
	defer parsed()
	f.sight(c, tree, changes)
	together := base && f.state.Good != ""
	switch {
	case base || f.state.Skipped: // what was skipped is judged with this one
		err := f.judge(ctx, c, tree)
		if errors.Is(err, gitrepo.ErrTooMuch) {
			f.skip(c, tree, err)
			return nil
		}
		if err != nil {
			return err
		}
	case f.state.Broken == "" && f.state.Good != "":
		f.state.Good = c.ID
	}
	parsed()
	for _, doc := range docs {
		f.document(c, tree, doc, together && touched[doc])
	}
	if base || f.state.Skipped || slices.ContainsFunc(docs, unnumbered) {
		f.accept(tree, c.ID)
	}
	f.state.Commit, f.tree, f.state.Skipped, f.state.Missed = c.ID, tree, false, nil
	return nil
}

// skip passes a commit by whose changes have no end, so that it and what comes after it
// can still take grants out. The next one is held against the last that could be compared.
// Of documents that are known already it notes what became of them all the same:
// what was taken out meanwhile stays out.
func (f *fold) skip(c *gitrepo.Commit, tree *gitrepo.Tree, why error) {
	if _, err := f.judgeRoot(c, tree); err != nil {
		why = errors.Join(why, err)
	}
	if !f.state.Skipped {
		f.state.Skipped, f.state.Compared = true, f.state.Commit
	}
	if f.tree != nil {
		f.missed(c, tree)
	}
	f.state.Commit = c.ID
	f.state.Broken = why.Error() + ": nobody can say what it did: take that out again; nothing new is granted until then"
}

// missed notes what a commit that is passed by made of the documents known before it.
func (f *fold) missed(c *gitrepo.Commit, tree *gitrepo.Tree) {
	changed := slices.Clone(f.state.Missed)
	for doc := range f.state.Documents.all() {
		switch reviews.KindOf(doc) {
		case reviews.KindPrincipal, reviews.KindConnection, reviews.KindCatalog, reviews.KindReview:
			if !same(f.tree, tree, doc) {
				changed = append(changed, doc)
			}
		}
	}
	slices.Sort(changed)
	f.state.Missed = slices.Compact(changed)
	for _, doc := range f.state.Missed {
		f.document(c, tree, doc, false)
	}
}

// diff is what two commits hold differently where documents can be.
func diff(a, b *gitrepo.Tree) ([]gitrepo.Change, error) {
	return gitrepo.Diff(a, b, func(folder string) bool {
		return strings.Count(folder, "/") < maxFolders && (inBase(folder) || slices.Contains(docFolders, strings.SplitN(folder, "/", 2)[0]))
	})
}

// docFolders hold documents besides those of the base, and none lies deeper than
// reviews/<connection>/<name>.yaml.sigs.
var docFolders = []string{"principals", "connections", "reviews"}

const maxFolders = 3

// sortOut finds the documents that changes touch, by their own bytes, then they
// are true, or by their signatures alone, and whether trust, config or policies are among them.
func sortOut(changes []gitrepo.Change) (touched map[string]bool, base bool) {
	touched = map[string]bool{}
	for _, c := range changes {
		if inBase(c.Path) {
			base = true
			continue
		}
		doc := docOf(c.Path)
		switch reviews.KindOf(doc) {
		case reviews.KindPrincipal, reviews.KindConnection, reviews.KindCatalog, reviews.KindReview:
			touched[doc] = touched[doc] || doc == c.Path
		}
	}
	return touched, base
}

// parseAhead begins to parse the touched reviews that head still holds, on all
// cores. What it returns waits for that.
func (f *fold) parseAhead(tree *gitrepo.Tree, docs []string) (wait func()) {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	group.Go(func() error {
		for _, doc := range docs {
			if unnumbered(doc) || !same(tree, f.head, doc) {
				continue
			}
			b, err := tree.ReadFile(doc)
			if err != nil {
				continue // whoever looks at it says why
			}
			group.Go(func() error {
				_, _ = f.parsed.Review(doc, b)
				return nil
			})
		}
		return nil
	})
	return func() { _ = group.Wait() }
}

// unnumbered documents have no sequence that orders their versions.
func unnumbered(doc string) bool {
	kind := reviews.KindOf(doc)
	return kind == reviews.KindConnection || kind == reviews.KindCatalog || kind == reviews.KindPrincipal
}

// judge decides whether a commit's trust, config and policies come into force.
// When they do not, the last good ones stay.
func (f *fold) judge(ctx context.Context, c *gitrepo.Commit, tree *gitrepo.Tree) error {
	rotated, err := f.judgeRoot(c, tree)
	if err != nil {
		f.state.Broken = err.Error()
		return nil
	}
	good, err := f.goodTree()
	if err != nil {
		return err
	}
	if good != nil {
		changed, err := changesBytes(good, tree)
		if err != nil {
			return err
		}
		if rotated && changed != "" {
			f.state.Broken = fmt.Sprintf("commit %s changed %s together with %s, under which it has to be judged: change it again in a commit of its own", short(c.ID), changed, reviews.RootPath)
			return nil
		}
		back, err := sameBase(good, tree)
		if err != nil {
			return err
		}
		if back && f.state.GoodRoot == f.state.root().SHA256 {
			f.state.Good, f.state.Broken = c.ID, ""
			return nil
		}
	}
	t, err := f.checkBase(ctx, good, tree)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.state.Broken = err.Error()
		return nil
	}
	f.enforce(t, c.ID)
	return nil
}

func (f *fold) goodTree() (*gitrepo.Tree, error) {
	if f.state.Good == "" {
		return nil, nil
	}
	return treeOf(f.mirror, f.state.Good)
}

func sameBase(a, b *gitrepo.Tree) (bool, error) {
	changes, err := diff(a, b)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(changes, func(c gitrepo.Change) bool { return inBase(c.Path) && !inTrust(c.Path) }), nil
}

// checkBase says what is wrong with the config and policies of tree under the
// trust root in force. Their predecessors are those of good (nil: none).
func (f *fold) checkBase(ctx context.Context, good, tree *gitrepo.Tree) (*reviews.Tree, error) {
	if err := f.replayed(good, tree); err != nil {
		return nil, err
	}
	t, err := f.load(view{config: tree, policies: tree, docs: tree, keep: none, noReviews: true})
	if err != nil {
		return nil, err
	}
	if err := f.removed(good, t); err != nil {
		return nil, err
	}
	if _, err := policies.Compile(ctx, sources(t)); err != nil {
		return nil, err
	}
	if good == nil || same(good, tree, reviews.ConfigPath) {
		return t, nil
	}
	// Policies that come with a new config need the approvals of the old one, too.
	_, err = f.load(view{config: good, policies: tree, docs: tree, gone: good, keep: none, noReviews: true})
	return t, err
}

// none keeps no document: only the trust root's own keys approve the base.
func none(string, string) bool { return false }

func sources(t *reviews.Tree) map[string][]byte {
	out := map[string][]byte{}
	for name, p := range t.Policies {
		out[name] = p.Source.Bytes
	}
	return out
}

// removed refuses that a policy goes without anybody's word: nobody signs a
// deletion. Taking a policy off the signed list of the config is such a word.
func (f *fold) removed(good *gitrepo.Tree, now *reviews.Tree) error {
	if good == nil {
		return nil
	}
	b, err := good.ReadFile(reviews.ConfigPath)
	if err != nil {
		return err
	}
	before, err := reviews.ParseConfig(reviews.ConfigPath, b)
	if err != nil {
		return err
	}
	for _, name := range f.baseFiles() {
		if name == reviews.ConfigPath || now.Policies[name] != nil || strings.HasSuffix(name, "_test.rego") {
			continue
		}
		file := path.Base(name)
		if !slices.Contains(before.Spec.Policies, file) || slices.Contains(now.Config.Spec.Policies, file) {
			return fmt.Errorf("%s is gone, and nobody signed that: bring it back; to remove it, list it in spec.policies of %s first, then delete the file in the same commit that takes it off the list", name, reviews.ConfigPath)
		}
	}
	return nil
}

// replayed refuses a signed version that was replaced before.
func (f *fold) replayed(good, tree *gitrepo.Tree) error {
	if good == nil {
		return nil
	}
	changes, err := diff(good, tree)
	if err != nil {
		return err
	}
	for _, c := range changes {
		b, err := tree.ReadFile(c.Path)
		if err != nil {
			continue // not there or not readable: loading tells
		}
		if by := f.state.Documents.of(c.Path).Replaced[digest(b)]; by != "" {
			return fmt.Errorf("%s is an older version, which commit %s replaced: change it (a comment is enough) and have it signed anew", c.Path, short(by))
		}
	}
	return nil
}

// baseFiles are config and policies in force.
func (f *fold) baseFiles() []string {
	var names []string
	for name, m := range f.state.Documents.all() {
		if inBase(name) && m.Accepted != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// enforce puts a commit's trust, config and policies into force.
func (f *fold) enforce(t *reviews.Tree, commit string) {
	files := map[string]string{reviews.ConfigPath: t.Config.Source.SHA256}
	for name, p := range t.Policies {
		files[name] = p.Source.SHA256
	}
	for _, name := range f.baseFiles() {
		if files[name] == "" { // tests of policies may go
			m := f.state.Documents.of(name)
			m.replace(commit)
			f.state.Documents.set(name, m)
		}
	}
	for name, sum := range files {
		f.inForce(name, sum, commit)
	}
	f.state.Repo, f.state.Good, f.state.GoodRoot, f.state.Broken = t.Repo, commit, f.state.root().SHA256, ""
}

// inForce notes the version of a document that holds from this commit on.
func (f *fold) inForce(name, sum, commit string) {
	m := f.state.Documents.of(name)
	if m.Accepted != sum {
		m.replace(commit)
		m.Accepted, m.Commit = sum, commit
		f.state.Documents.set(name, m)
	}
}

// document notes what a commit made of one document, and closes it when its
// version may not be granted whoever signed it.
func (f *fold) document(c *gitrepo.Commit, tree *gitrepo.Tree, doc string, together bool) {
	m := f.state.Documents.of(doc)
	b, err := tree.ReadFile(doc)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, gitrepo.ErrIrregular), errors.Is(err, gitrepo.ErrTooLarge):
		// Gone, or something else stands in its place, which is as good as gone.
		m.replace(c.ID)
		m.Closed, m.Retired = "", m.Sequence
		f.state.Documents.set(doc, m)
		return
	case err != nil:
		return // loading says what is wrong with it
	case unnumbered(doc):
		m.Closed = older(m, digest(b))
	default:
		m = f.sequence(m, c, tree, doc, b)
	}
	if together && m.Closed == "" {
		m.Closed = fmt.Sprintf("commit %s changed it together with trust, config or policies; documents are judged only under what was merged before them: touch it again in a commit of its own", short(c.ID))
	}
	f.state.Documents.set(doc, m)
}

func older(m memory, sum string) string {
	if by := m.Replaced[sum]; by != "" {
		return fmt.Sprintf("it is an older version, which commit %s replaced or deleted; an old signed copy does not come back: change it (a comment is enough) and have it signed anew", short(by))
	}
	return ""
}

// maxJump is by how much one version's sequence may be above all before it.
const maxJump = 1 << 20

// sequence holds a review's version against all that its name ever had.
// Approvals do not matter here: a merged sequence is used up, signed or not.
func (f *fold) sequence(m memory, c *gitrepo.Commit, tree *gitrepo.Tree, doc string, b []byte) memory {
	var parsed *reviews.Cache
	if same(tree, f.head, doc) {
		parsed = f.parsed
	}
	r, err := parsed.Review(doc, b)
	if err != nil || f.state.Repo != "" && r.Metadata.Repo != f.state.Repo {
		m.Closed = ""
		return m // loading says what is wrong with it
	}
	n, sum := r.Spec.Sequence, digest(b)
	switch {
	case n <= m.Retired:
		m.Closed = fmt.Sprintf("sequence %d was used before the review was deleted; an old signed copy does not come back: write it anew with sequence %d", n, m.Sequence+1)
	case n < m.Sequence:
		m.Closed = fmt.Sprintf("sequence %d is lower than %d, which commit %s had; an old signed copy does not come back: write it anew with sequence %d", n, m.Sequence, short(m.Commit), m.Sequence+1)
	case n == m.Sequence && sum != m.SHA256:
		m.Closed = fmt.Sprintf("sequence %d already stands for other bytes, those of commit %s: write it anew with sequence %d", n, short(m.Commit), m.Sequence+1)
	case n == m.Sequence:
		m.Closed = ""
	case n-m.Sequence > maxJump: // the number is not used up, so nobody can use a name up by a file that no one approved
		m.Closed = fmt.Sprintf("sequence %d is far above %d, the highest that it had: write it anew with sequence %d", n, m.Sequence, m.Sequence+1)
	default:
		m.Closed, m.Sequence, m.SHA256, m.Commit, m.At = "", n, sum, c.ID, earlier(c.Time, f.now)
	}
	return m
}

// earlier is the first sighting of a commit: now, or the date it carries when
// that is earlier. A date that its maker chose can only make an approval look
// older, so an empty state finds the same as one that was kept.
func earlier(claimed, now time.Time) time.Time {
	if claimed.Before(now) {
		return claimed.UTC()
	}
	return now.UTC()
}

// accept notes which versions of the unnumbered documents are in force after
// a commit. While the base is broken nothing new is.
func (f *fold) accept(tree *gitrepo.Tree, commit string) {
	if f.state.Broken != "" || f.state.Good == "" {
		return
	}
	t, err := f.load(view{config: tree, policies: tree, docs: tree, noReviews: true, keep: func(doc, _ string) bool {
		return unnumbered(doc) && f.state.Documents.of(doc).Closed == ""
	}})
	if err != nil {
		return // releasing reports it
	}
	for _, p := range t.Principals {
		f.inForce(p.Source.Path, p.Source.SHA256, commit)
		m := f.state.Documents.of(p.Source.Path)
		m.Owner = p.Spec.Owner
		f.state.Documents.set(p.Source.Path, m)
	}
	for _, c := range t.Connections {
		f.inForce(c.Source.Path, c.Source.SHA256, commit)
		if s := c.CatalogSource; c.Catalog != nil && s.Path != "" {
			f.inForce(s.Path, s.SHA256, commit)
		}
		m := f.state.Documents.of(c.Source.Path)
		m.Risk = c.Spec.Risk
		f.state.Documents.set(c.Source.Path, m)
	}
}

func (f *fold) load(v view) (*reviews.Tree, error) {
	var err error
	if v.trust, err = f.state.trustTree(f.mirror, v.config); err != nil {
		return nil, err
	}
	v.audit = f.audit
	return reviews.Load(v, f.options())
}

func (f *fold) options() reviews.LoadOptions {
	opt, _ := f.state.options(f.now, f.cache)
	return opt
}

// options are how documents are judged under what the state remembers. What it
// does not remember is an attestation that is read for the first time. While a load
// goes on, seen tells what is remembered.
func (s *state) options(now time.Time, cache *reviews.Cache) (opt reviews.LoadOptions, seen func(sha256 string) time.Time) {
	var mu sync.Mutex
	seen = func(sha256 string) time.Time {
		mu.Lock()
		defer mu.Unlock()
		return s.Seen[sha256]
	}
	return reviews.LoadOptions{
		Now: now, Cache: cache,
		Seen: func(sha256 string) time.Time {
			mu.Lock()
			defer mu.Unlock()
			at, known := s.Seen[sha256]
			if !known {
				at = now.UTC().Truncate(time.Second)
				s.Seen[sha256] = at
				s.Taken = append(s.Taken, release.Taken{Attestation: sha256, At: at})
			}
			return at
		},
		RiskBefore: func(connection string) string {
			return s.Documents.of(reviews.PathOf(reviews.KindConnection, connection)).Risk
		},
		OwnerBefore: func(principal string) string {
			return s.Documents.of(reviews.PathOf(reviews.KindPrincipal, principal)).Owner
		},
	}, seen
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// short is a commit id as people write it.
func short(commit string) string { return commit[:min(12, len(commit))] }
