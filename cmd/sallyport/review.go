package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// reviewOptions are the flags of review.
type reviewOptions struct {
	as, key, digest   string
	approve, markdown bool
	noFetch, comment  bool
}

func newReview(g *globals) *cobra.Command {
	o := &reviewOptions{}
	c := &cobra.Command{
		Use:   "review [PR|BRANCH|FILE]",
		Short: "See what awaits you, what it would change, and approve it",
		Long: `review without an argument lists the branches whose documents still need an approval
that you could give, those with the highest risk first.

With a pull request (its number), a branch, the name of a review or a document's path
it says in plain words what would be different if that were merged now: what it newly
allows, holds, masks or unmasks, for whom, on which connection, until when and why;
who still has to approve; and what each example comes to in the real guard and
policies. A change is judged under the trust root, settings and policies that are
merged, never under those that it brings.

--approve then asks whether to sign. It signs every document of the change that needs
you, byte for byte as shown, in one commit on that branch, and pushes it once. Without
a terminal, say with --digest what you have seen: a change that is not that one any
more is refused. Your work tree is not touched, unless it is on that very branch.

--markdown prints the same as one comment for a pull request. Nothing in a document
can break out of it or notify anybody. --comment keeps such a comment up to date, on
the forge that the merged settings name, with the token in SALLYPORT_FORGE_TOKEN (or
GITHUB_TOKEN, GITEA_TOKEN).

Exit code 1: a document has problems, an example does not come to what it says, or
the approval was refused.`,
		Example: `  sallyport review --as user:bob
  sallyport review request/orders-db/etl
  sallyport review 12 --markdown
  sallyport review request/orders-db/etl --approve --as user:bob
  sallyport review reviews/orders-db/etl.yaml --as user:bob --approve --digest 3f0c2a9b11de --json`,
		Args: arguments(0, 1, "PR, BRANCH or FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.approve {
				if len(args) == 0 {
					return usage("--approve: say which branch, pull request or file")
				}
				if err := need(c, "as"); err != nil {
					return err
				}
			} else if o.digest != "" {
				return usage("--digest goes with --approve")
			}
			if (o.markdown || o.comment) && (g.json || o.approve || len(args) == 0) {
				return usage("--markdown and --comment are for one change, without --json and --approve")
			}
			return o.run(c, g, args)
		},
	}
	f := c.Flags()
	f.StringVar(&o.as, "as", "", "you, as a principal (default: whose key the ssh-agent or ~/.ssh/id_ed25519.pub has)")
	f.StringVar(&o.key, "key", "", keyFlagHelp)
	f.BoolVar(&o.approve, "approve", false, "sign all documents of it that need you, commit and push")
	f.StringVar(&o.digest, "digest", "", "the digest that was shown, at least 12 digits: approve only that")
	f.BoolVar(&o.markdown, "markdown", false, "print it as a pull request's comment")
	f.BoolVar(&o.comment, "comment", false, "keep one comment on the pull request up to date with it, where the forge is set up")
	f.BoolVar(&o.noFetch, "no-fetch", false, "do not fetch the remote first")
	g.jsonFlag(c)
	return c
}

func (o *reviewOptions) run(c *cobra.Command, g *globals, args []string) error {
	ctx := c.Context()
	if o.as != "" && !reviews.IsPrincipal(o.as) {
		return usage("--as %q is not a principal such as user:bob", o.as)
	}
	repo, err := g.workTree(ctx)
	if err != nil {
		return err
	}
	if !o.noFetch {
		if err := fetchRemote(ctx, repo.git); err != nil {
			if o.approve {
				return hint(err, "an approval needs to know what the branch is now; without a network: --no-fetch")
			}
			fmt.Fprintf(c.ErrOrStderr(), "sallyport: showing what this clone knows: %s\n", oneLine(err.Error()))
		}
	}
	now := time.Now()
	s, err := openProposals(ctx, repo, now)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return o.list(ctx, g, s, c.OutOrStdout(), c.ErrOrStderr())
	}
	p, only, err := s.find(ctx, args[0])
	if err != nil {
		return err
	}
	if !o.noFetch {
		if err := hearForge(ctx, g, p, args[0]); err != nil {
			fmt.Fprintf(c.ErrOrStderr(), "sallyport: approvals on the forge are not counted here: %s\n", oneLine(err.Error()))
		}
	}
	r, err := p.report(ctx, now, only)
	if err != nil {
		return err
	}
	if o.approve {
		return o.sign(c, g, s, p, r, only)
	}
	switch {
	case g.json:
		err = printJSON(c.OutOrStdout(), r)
	case o.comment:
		err = o.post(ctx, g, repo, args[0], r)
	case o.markdown:
		reviewMarkdown(c.OutOrStdout(), r)
	default:
		reviewText(c.OutOrStdout(), r)
		if len(r.Awaiting) > 0 && r.sound() {
			fmt.Fprintf(c.OutOrStdout(), "\nnext: sallyport review %s --as user:YOU --approve\n", approvable(r))
		}
	}
	if err == nil && !r.sound() {
		return errQuiet
	}
	return err
}

// hearForge counts who approved the pull request of a proposal, where that counts.
func hearForge(ctx context.Context, g *globals, p *proposal, arg string) error {
	if !countsOnForge(p.before.Config) {
		return nil
	}
	f, err := g.forgeFor(ctx, p.repo)
	if err != nil {
		return err
	}
	if f.word == nil {
		return errors.New("give a token that reads pull requests in SALLYPORT_FORGE_TOKEN")
	}
	number := 0
	if m := cmpMatch(pullNumber.FindStringSubmatch(arg), pullURL.FindStringSubmatch(arg)); m != nil {
		number, _ = strconv.Atoi(m[1])
	}
	w, err := f.word(ctx, number, p.branch)
	p.hear(w)
	return err
}

// post puts the text into the pull request's one comment of ours.
func (o *reviewOptions) post(ctx context.Context, g *globals, repo *accessRepo, pull string, r *reviewReport) error {
	number, err := strconv.Atoi(pull)
	if err != nil {
		return usage("--comment: say which pull request, by its number")
	}
	f, err := g.forgeFor(ctx, repo)
	if err != nil {
		return err
	}
	if f.comment == nil {
		return hint(errors.New("no forge is set up here that could take a comment"), "write spec.forge in %s, and give a token in SALLYPORT_FORGE_TOKEN", reviews.ConfigPath)
	}
	var text strings.Builder
	reviewMarkdown(&text, r)
	return f.comment(ctx, number, text.String())
}

// sound says that there are no problems and that all examples hold.
func (r *reviewReport) sound() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Documents, func(d documentReport) bool {
		return slices.ContainsFunc(d.Examples, func(e ci.Outcome) bool { return !e.Passed })
	})
}

// fetchRemote brings the clone up to date; without a remote there is nothing to do.
func fetchRemote(ctx context.Context, work *workTree) error {
	remote := work.remote(ctx)
	if remote == "" {
		return nil
	}
	if _, err := work.git(ctx, "fetch", "--quiet", "--prune", remote); err != nil {
		return fmt.Errorf("the remote %s cannot be fetched: %w", remote, err)
	}
	return nil
}

// waiting is one line of the list.
type waiting struct {
	Ref       string   `json:"ref"`
	Commit    string   `json:"commit"`
	Author    string   `json:"author"`
	Risk      string   `json:"risk"`
	Documents []string `json:"documents"` // that need an approval
	Problems  int      `json:"problems"`
	When      string   `json:"when"` // of the commit
	when      time.Time
}

// list prints the branches that await the principal, the riskiest first and the
// oldest of equals before newer ones.
func (o *reviewOptions) list(ctx context.Context, g *globals, s *proposals, out, errOut io.Writer) error {
	as := o.as
	if as == "" {
		as = ownPrincipal(s.before)
	}
	branches, err := s.branches(ctx)
	if err != nil {
		return err
	}
	list := []waiting{}
	for _, b := range branches {
		p, err := s.open(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", oneLine(b.ref), err)
		}
		if p == nil {
			continue
		}
		if paths := p.awaiting(as); len(paths) > 0 {
			list = append(list, waiting{p.name, p.commit, p.author, p.risk(), paths, len(p.problems()), stamp(p.when), p.when})
		}
	}
	slices.SortStableFunc(list, func(a, b waiting) int {
		if a.Risk != b.Risk {
			return riskRank(b.Risk) - riskRank(a.Risk)
		}
		return a.when.Compare(b.when)
	})
	if g.json {
		return printJSON(out, map[string]any{"as": as, "against": s.merged.ref, "awaiting": list})
	}
	who := as
	if as == "" {
		who = "anybody (say who you are with --as)"
	}
	if len(list) == 0 {
		fmt.Fprintf(out, "nothing awaits %s\n", who)
		return nil
	}
	fmt.Fprintf(out, "%s for %s:\n", awaitCount(len(list)), who)
	rows := make([][]string, len(list))
	for i, w := range list {
		problems := ""
		if w.Problems > 0 {
			problems = count(w.Problems, "problem")
		}
		rows[i] = []string{w.Risk, oneLine(w.Ref), w.When, oneLine(w.Author), oneLine(shortList(w.Documents, 3)), problems}
	}
	table(out, []string{"RISK", "BRANCH", "SINCE", "BY", "DOCUMENTS", ""}, rows)
	return nil
}

func awaitCount(n int) string {
	if n == 1 {
		return "1 change waits"
	}
	return fmt.Sprintf("%d changes wait", n)
}

// ownPrincipal is the one principal whose key the ssh-agent or the usual public
// key file has, "" when that is nobody or several.
func ownPrincipal(tree *reviews.Tree) string {
	var keys []ssh.PublicKey
	if conn, err := dialAgent(); err == nil {
		held, _ := agent.NewClient(conn).List()
		conn.Close()
		for _, k := range held {
			keys = append(keys, k)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		if b, err := os.ReadFile(filepath.Join(home, ".ssh", "id_ed25519.pub")); err == nil {
			if key, _, _, _, err := ssh.ParseAuthorizedKey(b); err == nil {
				keys = append(keys, key)
			}
		}
	}
	found := make(map[string]bool)
	for _, name := range tree.PrincipalNames() {
		for _, key := range keys {
			if holds(tree.Keys(name), key) {
				found[name] = true
			}
		}
	}
	if names := sortedKeys(found); len(names) == 1 {
		return names[0]
	}
	return ""
}

var (
	pullNumber = regexp.MustCompile(`^#?([0-9]{1,9})$`)
	pullURL    = regexp.MustCompile(`^https?://[^ ]+/(?:pull|pulls|merge_requests)/([0-9]{1,9})/?$`)
)

// find turns what people write into a proposal: a document's path (of the present
// commit), a branch, the name of a review, or the number or address of a pull request.
func (s *proposals) find(ctx context.Context, arg string) (p *proposal, only string, err error) {
	git := s.repo.git
	if path, is := s.documentAt(arg); is {
		b, err := s.current(ctx, path, arg)
		if err != nil {
			return nil, "", err
		}
		p, err = s.must(ctx, b, arg)
		if err == nil && !slices.Contains(p.paths, path) {
			err = hint(fmt.Errorf("%s is on this branch what it is on %s", path, s.merged.ref), "there is nothing to review")
		}
		return p, path, err
	}
	branches, err := s.branches(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, name := range []string{arg, reviews.RequestBranch(arg)} {
		if b, found := branchNamed(branches, name); found {
			p, err = s.must(ctx, b, arg)
			return p, "", err
		}
	}
	if m := cmpMatch(pullNumber.FindStringSubmatch(arg), pullURL.FindStringSubmatch(arg)); m != nil {
		b, err := s.pull(ctx, m[1], branches)
		if err != nil {
			return nil, "", err
		}
		p, err = s.must(ctx, b, arg)
		return p, "", err
	}
	commit, err := git.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", arg+"^{commit}")
	if err != nil {
		return nil, "", hint(fmt.Errorf("%q is no branch, pull request or document here", oneLine(arg)), "`sallyport review` lists what awaits you")
	}
	p, err = s.must(ctx, branch{ref: arg, commit: commit}, arg)
	return p, "", err
}

func cmpMatch(a, b []string) []string {
	if a != nil {
		return a
	}
	return b
}

func (s *proposals) must(ctx context.Context, b branch, arg string) (*proposal, error) {
	if b.author == "" {
		if out, err := s.repo.git.git(ctx, "log", "--max-count=1", "--no-show-signature", "--format=%an%x00%ct", b.commit, "--"); err == nil {
			b.author, _, _ = strings.Cut(out, "\x00")
		}
	}
	p, err := s.open(ctx, b)
	if err == nil && p == nil {
		err = hint(fmt.Errorf("%s changes no document compared with %s", oneLine(arg), s.merged.ref), "`sallyport review` lists what awaits you")
	}
	return p, err
}

// documentAt is the path of a document, from the root of the access repo, when
// the argument names a file of the work tree that is one.
func (s *proposals) documentAt(arg string) (string, bool) {
	for _, full := range []string{arg, filepath.Join(s.repo.git.dir, filepath.FromSlash(arg))} {
		info, err := os.Lstat(full)
		if err != nil || info.IsDir() {
			continue
		}
		abs, err := filepath.Abs(full)
		if err != nil {
			continue
		}
		top, err := filepath.EvalSymlinks(s.repo.git.dir)
		if err != nil {
			continue
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			abs = filepath.Join(dir, filepath.Base(abs))
		}
		rel, err := filepath.Rel(top, abs)
		if err == nil && reviews.KindOf(filepath.ToSlash(rel)) != "" {
			return filepath.ToSlash(rel), true
		}
	}
	return "", false
}

// current is the present branch, whose committed document must be the one in the work tree.
func (s *proposals) current(ctx context.Context, path, arg string) (branch, error) {
	git := s.repo.git
	commit, err := git.git(ctx, "rev-parse", "--verify", "HEAD^{commit}")
	if err != nil {
		return branch{}, err
	}
	committed, ok := git.blob(ctx, commit, path)
	if !ok {
		return branch{}, hint(fmt.Errorf("%s is not committed", oneLine(arg)), "commit it first: what is approved is what git has")
	}
	work, err := os.ReadFile(filepath.Join(git.dir, filepath.FromSlash(path)))
	if err != nil {
		return branch{}, err
	}
	if string(work) != string(committed) {
		return branch{}, hint(fmt.Errorf("%s differs from what is committed at HEAD", oneLine(arg)), "commit your change (git diff shows it) or undo it first")
	}
	b := branch{ref: "HEAD", commit: commit}
	if name, err := git.git(ctx, "symbolic-ref", "--quiet", "--short", "HEAD"); err == nil {
		b.ref, b.name = name, name
	}
	return b, nil
}

// branchNamed finds a branch by its name, with or without the remote's. Without
// it, the remote's is meant where there are two that differ.
func branchNamed(branches []branch, name string) (branch, bool) {
	for _, b := range branches { // those of the remote come first
		if b.ref == name || b.name == name {
			return b, true
		}
	}
	return branch{}, false
}

// pull fetches the head of a pull request, under the names that GitHub, Gitea and GitLab give it.
func (s *proposals) pull(ctx context.Context, number string, branches []branch) (branch, error) {
	git := s.repo.git
	remote := git.remote(ctx)
	if remote == "" {
		return branch{}, hint(fmt.Errorf("there is no remote to fetch pull request %s from", number), "name its branch")
	}
	var last error
	for _, ref := range []string{"refs/pull/" + number + "/head", "refs/merge-requests/" + number + "/head"} {
		local := "refs/sallyport/pull/" + number
		if _, last = git.git(ctx, "fetch", "--quiet", remote, "+"+ref+":"+local); last != nil {
			continue
		}
		commit, err := git.git(ctx, "rev-parse", "--verify", local+"^{commit}")
		if err != nil {
			return branch{}, err
		}
		b := branch{ref: "pull request " + number, commit: commit}
		for _, known := range branches {
			if known.commit == commit {
				b.name = known.name
			}
		}
		return b, nil
	}
	return branch{}, hint(fmt.Errorf("pull request %s cannot be fetched from %s: %w", number, remote, last), "name its branch")
}

// agree asks on the terminal. Without one nobody has seen anything.
func agree(question string) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, errors.New("there is no terminal to ask on")
	}
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && answer == "" {
		return false, nil
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
