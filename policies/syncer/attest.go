package syncer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/forge"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// attestSoon and attestLate are how soon sync asks the forge again about pull
// requests that it could not attest: first at once, because a forge tells some
// things only a little after the merge, then ever more seldom.
const (
	attestSoon = 500 * time.Millisecond
	attestLate = 5 * time.Minute
)

// askAgain is when the forge is to be asked again: after a quarter of the time for
// which it was asked in vain, and not before it wants to be.
func (s *Syncer) askAgain() time.Time {
	wait := min(max(s.asked.Sub(s.asking)/4, attestSoon), max(attestLate, s.every))
	if next := s.asked.Add(wait); next.After(s.limited) {
		return next
	}
	return s.limited
}

// askSooner is for when somebody may just have approved what waits. It may be called
// often, for every push that a forge tells of.
func (s *Syncer) askSooner() {
	const ago = 16 * time.Second // every four seconds, to begin with
	if recent := s.opt.Now().Add(-ago); s.asking.Before(recent) {
		s.asking = recent
	}
}

// Attester lets sync take approvals in pull requests for approvals. The forge
// is the one that the config in force names.
type Attester struct {
	Token forge.Token
	Key   ssh.Signer // an attester key of the trust root
}

// auditBranch is the branch that holds attestations and the log of releases.
type auditBranch struct {
	target Audit
	mirror *gitrepo.Mirror
	branch string
	sign   ssh.Signer

	mu   sync.Mutex
	tree *gitrepo.Tree // nil before it was fetched, or when there is no such branch
}

// chooseAudit opens the audit branch that the options or the config of a commit
// name. A config that cannot be read changes nothing.
func (s *Syncer) chooseAudit(commit string) error {
	target := s.opt.Audit
	if target.FromConfig {
		config := s.configAt(commit)
		if config == nil {
			return nil
		}
		target = Audit{Remote: config.Spec.Audit.Repository, Branch: config.Spec.Audit.Branch}
		if target.Remote == "" || target.Remote == config.Spec.Repository {
			target.Remote = s.opt.Remote // the same one, by the name under which it is reached from here
		}
	}
	target.Branch = cmp.Or(target.Branch, "audit")
	if target.Remote == "" || s.audit != nil && s.audit.target == target {
		return nil
	}
	if err := gitrepo.CheckBranch(target.Branch); err != nil {
		return err
	}
	git := s.opt.Git
	if !gitrepo.SameHost(target.Remote, s.opt.Remote) {
		git.Token = "" // it is for the access repo
	}
	mirror, err := gitrepo.Open(filepath.Join(s.opt.StateDir, "audit-"+digest([]byte(target.Remote))[:12]+".git"), target.Remote, git)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	s.audit = &auditBranch{target: target, mirror: mirror, branch: target.Branch, sign: s.opt.Signer}
	s.logged.use(s.audit)
	if last := mirror.Last(target.Branch); last != "" && mirror.Has(last) {
		return s.audit.show(last) // what is attested stays so while the remote is away
	}
	return nil
}

// configAt is the config of a commit, nil when there is none that can be read.
func (s *Syncer) configAt(commit string) *reviews.Config {
	tree, err := treeOf(s.mirror, commit)
	if err != nil {
		return nil
	}
	b, err := tree.ReadFile(reviews.ConfigPath)
	if err != nil {
		return nil
	}
	config, err := reviews.ParseConfig(reviews.ConfigPath, b)
	if err != nil {
		return nil
	}
	return config
}

// fromLog is what the log of releases tells an empty state. Without the log
// everything counts as seen now, so it has to be read, if there is one.
func (s *Syncer) fromLog(ctx context.Context, head string, line []*gitrepo.Commit) (learned, error) {
	if err := s.chooseAudit(head); err != nil { // nobody approved this config, but only what a release key signed is believed
		return learned{}, err
	}
	if s.audit == nil {
		return learned{}, nil
	}
	if err := s.audit.fetch(ctx); err != nil {
		return learned{}, fmt.Errorf("the state is empty, and the log of releases, which says what was seen before, cannot be read: make %s reachable, or name another one with --audit: %w", s.audit.mirror.Remote(), err)
	}
	return s.learn(ctx, s.audit.files(), line)
}

// files are those of the branch as last fetched, nil when there are none.
func (a *auditBranch) files() fs.FS {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tree == nil {
		return nil // and not a nil *gitrepo.Tree
	}
	return a.tree
}

// head is the commit of the branch as last fetched, "" when there is none.
func (a *auditBranch) head() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tree == nil {
		return ""
	}
	return a.tree.Commit()
}

func (a *auditBranch) fetch(ctx context.Context) error {
	fetched, err := a.mirror.Fetch(ctx, a.branch, "")
	if errors.Is(err, gitrepo.ErrNoBranch) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tree = nil
		return nil
	}
	if err != nil {
		return err
	}
	return a.show(fetched.Head)
}

func (a *auditBranch) show(commit string) error {
	tree, err := treeOf(a.mirror, commit)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tree = tree
	return nil
}

// add commits files that are not there yet. replace, when not nil, says what gives way to them.
func (a *auditBranch) add(ctx context.Context, message string, files map[string][]byte, now time.Time, replace func(path string, there []byte) bool) error {
	commit, err := a.mirror.Add(ctx, gitrepo.Addition{
		Branch: a.branch, Files: files, Message: message, Time: now, Replace: replace,
		Author: gitrepo.Identity{Name: "sallyport sync", Email: "sync@sallyport.invalid"},
		Sign:   func(m []byte) ([]byte, error) { return reviews.Sign(a.sign, reviews.NamespaceGit, m) },
	})
	if err != nil {
		return err
	}
	return a.show(commit)
}

// attest asks the forge who approved the pull requests that brought what is
// pending in a tree, and commits what it says to the audit branch. It reports
// whether that branch says anything else of it now than when the tree was loaded;
// the error says what was not attested.
func (s *Syncer) attest(ctx context.Context, tree *reviews.Tree) (bool, error) {
	if s.audit == nil {
		return false, errors.New("approvals in pull requests do not count without an audit branch, where they are attested: give sync --audit")
	}
	loaded := s.audit.files()
	if err := s.audit.fetch(ctx); err != nil {
		return false, err
	}
	err := s.attestAll(ctx, tree)
	now := s.audit.files()
	return slices.ContainsFunc(tree.Pending, func(p reviews.Pending) bool {
		at := reviews.AttestationPath(p.SHA256)
		return !bytes.Equal(readOr(loaded, at), readOr(now, at))
	}), err
}

// readOr is a file, nil when there is none that can be read.
func readOr(files fs.FS, name string) []byte {
	if files == nil {
		return nil
	}
	b, err := fs.ReadFile(files, name)
	if err != nil {
		return nil
	}
	return b
}

func exists(files fs.FS, name string) bool {
	if files == nil {
		return false
	}
	_, err := fs.Stat(files, name)
	return err == nil
}

func (s *Syncer) attestAll(ctx context.Context, tree *reviews.Tree) error {
	if s.opt.Attester == nil { // another sync may do it
		return errors.New("approvals in pull requests count once they are attested, and this sync does not do that: give it --forge-token and --attester-key")
	}
	if err := s.openForge(); err != nil {
		return err
	}
	head, err := treeOf(s.mirror, s.state.Commit)
	if err != nil {
		return err
	}
	w := &words{files: map[string][]byte{}, said: map[string]*reviews.ForgeApproval{}}
	var failed []error
	for _, p := range tree.Pending {
		if err := s.attestOne(ctx, tree, head, p.Path, w); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.Path, err))
		}
	}
	pending := map[string]reviews.Pending{}
	for _, p := range tree.Pending {
		pending[reviews.AttestationPath(p.SHA256)] = p
	}
	known := s.audit.files()
	for at := range w.files {
		p, waits := pending[at]
		switch {
		case !exists(known, at):
		case !waits:
			delete(w.files, at) // what is there does, or is not needed
		case s.enough(tree, p, readOr(known, at), w.said[at]) == nil:
			delete(w.files, at)
			failed = append(failed, fmt.Errorf("%s: what its pull request brought is attested, and nobody else approved since", p.Path))
		}
	}
	if len(w.files) == 0 {
		return errors.Join(failed...)
	}
	err = s.audit.add(ctx, fmt.Sprintf("audit: attest %s", plural(len(w.files), "document")), w.files, s.opt.Now(), func(at string, there []byte) bool {
		p, waits := pending[at]
		if !waits && at != path.Dir(reviews.AttestationPath("x")) {
			return false // another sync was faster
		}
		why := errors.New("it is in the way of all attestations")
		if waits {
			why = s.enough(tree, p, there, w.said[at])
		}
		if why != nil && !errors.Is(why, errMoreApprovals) {
			s.log.Error("what is on the audit branch in place of an attestation does not count, and is replaced: find out who put it there", "file", at, "reason", why)
		}
		return why != nil
	})
	return errors.Join(append(failed, err)...)
}

// words are what sync is about to attest, and the files that say so, by path.
type words struct {
	said  map[string]*reviews.ForgeApproval
	files map[string][]byte
}

// errMoreApprovals means that an attestation is right, and not all that there is to say any more.
var errMoreApprovals = errors.New("more accounts approved since")

// enough is nil when what stands in the place of an attestation of a document is one and
// says all that now has to be said. What does not count is never enough.
func (s *Syncer) enough(tree *reviews.Tree, p reviews.Pending, there []byte, now *reviews.ForgeApproval) error {
	seen := s.state.Seen[digest(there)]
	if seen.IsZero() {
		seen = s.opt.Now()
	}
	before, err := tree.Attested(p.Path, p.SHA256, there, seen)
	if err != nil {
		return err
	}
	for _, a := range now.Approvals {
		if !slices.ContainsFunc(before.Approvals, func(b reviews.AccountApproval) bool { return b.ID == a.ID }) {
			return errMoreApprovals
		}
	}
	return nil
}

// attestOne finds the pull request that brought a document's present bytes.
func (s *Syncer) attestOne(ctx context.Context, tree *reviews.Tree, head *gitrepo.Tree, path string, w *words) error {
	b, err := head.ReadFile(path)
	if err != nil {
		return err
	}
	at := reviews.AttestationPath(digest(b))
	if w.files[at] != nil {
		return nil // the same pull request brought it
	}
	brought, err := s.mirror.FirstHolding(ctx, s.state.Commit, path)
	if err != nil {
		return err
	}
	candidates, err := s.forge.MergedAs(ctx, brought.ID)
	if err != nil {
		return err
	}
	if len(candidates) == 0 { // one of several commits that a rebase made
		since := brought.Time.Add(-24 * time.Hour)
		all, err := s.forge.PullRequests(ctx, s.opt.Branch, since)
		if err != nil {
			return err
		}
		candidates = slices.DeleteFunc(all, func(p forge.PullRequest) bool { return !p.Merged })
	}
	why := errors.New("no merged pull request brought it as it stands: commit " + short(brought.ID) + " was pushed past them")
	for _, p := range candidates {
		statement, contents, err := s.statement(ctx, tree, &p, path, digest(b))
		if err != nil {
			why = fmt.Errorf("pull request %d: %w", p.Number, err)
			continue
		}
		attestation, err := reviews.Attest(*statement, contents, s.opt.Attester.Key)
		if err != nil {
			return err
		}
		for _, c := range contents {
			at := reviews.AttestationPath(c.Digest.SHA256)
			w.files[at], w.said[at] = attestation, statement
		}
		return nil
	}
	return why
}

// statement is what the forge and the pull request's own head say. Contents are
// those documents that the pull request brought and the branch still holds.
func (s *Syncer) statement(ctx context.Context, loaded *reviews.Tree, p *forge.PullRequest, path, sum string) (*reviews.ForgeApproval, []reviews.Content, error) {
	if p.Base != s.opt.Branch {
		return nil, nil, fmt.Errorf("it went to branch %s", p.Base)
	}
	fetched, err := s.mirror.PullRequest(ctx, p.Number)
	if err != nil {
		return nil, nil, err
	}
	if fetched != p.Head {
		return nil, nil, fmt.Errorf("its head is %s in git and %s in the forge: it was pushed to after the merge", short(fetched), short(p.Head))
	}
	tree, err := treeOf(s.mirror, fetched)
	if err != nil {
		return nil, nil, err
	}
	reviewed, err := tree.ReadFile(path)
	if err != nil || digest(reviewed) != sum {
		return nil, nil, errors.New("what was merged is not what was reviewed there")
	}
	signed, err := s.signed(loaded, fetched)
	if err != nil {
		return nil, nil, err
	}
	by, err := s.forge.Contributors(ctx, p, signed)
	if err != nil {
		return nil, nil, err
	}
	if !by.PushersKnown {
		return nil, nil, errors.New("the forge does not tell (yet) everybody who pushed to it, and of a fork never does, so nobody can be told apart from its authors: wait a minute, or have the documents signed")
	}
	words, err := s.forge.Reviews(ctx, p.Number)
	if err != nil {
		return nil, nil, err
	}
	a := &reviews.ForgeApproval{
		Repo: s.state.Repo, PullRequest: int64(p.Number), Base: p.Base, Head: p.Head, SameAs: by.SameAs,
		AttestedAt: s.opt.Now().UTC().Truncate(time.Second), Contributors: []int64{}, Approvals: []reviews.AccountApproval{},
	}
	a.Forge, a.Repository = s.forgeIn.Kind, s.forgeIn.Repository
	for _, u := range by.Users {
		a.Contributors = append(a.Contributors, u.ID)
	}
	refused := errors.New("nobody approved its last commit")
	for _, w := range words {
		if err := w.Approves(p, by); err != nil {
			refused = err
			continue
		}
		a.Approvals = append(a.Approvals, reviews.AccountApproval{ID: w.User.ID, Commit: w.Commit, At: w.Submitted.UTC().Truncate(time.Second), Bot: w.User.Bot})
	}
	if len(a.Approvals) == 0 {
		return nil, nil, refused
	}
	contents, err := s.contents(ctx, p, tree)
	return a, contents, err
}

// signed are the last commits of a pull request that only add signatures, each those
// of one principal, as far as git and the trust root in force tell. The oldest is first.
func (s *Syncer) signed(loaded *reviews.Tree, head string) ([]forge.Signed, error) {
	last, err := s.mirror.LastAdded(head)
	if err != nil {
		return nil, err
	}
	var list []forge.Signed
	for _, c := range last {
		by, err := loaded.SignedBy(c.Tree, c.Files)
		if err != nil {
			break // something else came with it
		}
		list = append(list, forge.Signed{Commit: c.Commit.ID, Parent: c.Parent.ID, Account: loaded.Root.Account(s.forgeIn.Kind, by)})
	}
	slices.Reverse(list)
	return list, nil
}

// contents are the documents of a pull request that stand in the branch as they were reviewed.
func (s *Syncer) contents(ctx context.Context, p *forge.PullRequest, reviewed *gitrepo.Tree) ([]reviews.Content, error) {
	names, err := s.forge.Files(ctx, p.Number)
	if err != nil {
		return nil, err
	}
	head, err := treeOf(s.mirror, s.state.Commit)
	if err != nil {
		return nil, err
	}
	var list []reviews.Content
	for _, name := range names {
		if reviews.KindOf(name) == "" || !same(reviewed, head, name) {
			continue
		}
		b, err := head.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list = append(list, reviews.Content{Name: name, Digest: reviews.ContentDigest{SHA256: digest(b)}})
	}
	if len(list) == 0 {
		return nil, errors.New("it changed no document that still stands as it was reviewed")
	}
	return list, nil
}

// openForge opens the forge that the config in force names.
func (s *Syncer) openForge() error {
	config := s.configAt(s.state.Good)
	if config == nil || config.Spec.Forge.Kind == "" {
		return fmt.Errorf("no forge is named in %s", reviews.ConfigPath)
	}
	named := config.Spec.Forge
	if s.forge != nil && s.forgeIn == named {
		return nil
	}
	address := strings.TrimSuffix(named.URL, "/")
	if address == "" {
		address = "https://github.com" // Parse demands the address of any other one
	}
	client, err := forge.Open(forge.Options{
		Kind: forge.Kind(named.Kind), Remote: address + "/" + named.Repository + ".git", URL: address,
		Token: s.opt.Attester.Token,
	})
	if err != nil {
		return err
	}
	s.forge, s.forgeIn = client, named
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
