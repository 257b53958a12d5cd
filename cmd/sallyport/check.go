package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// checkOptions are the flags of check.
type checkOptions struct {
	requireApproved, noCache, protection bool
	ref, base, head, merge               string
	format                               formatFlag
	job                                  *mergeJob // of --merge
}

func newCheck(g *globals) *cobra.Command {
	o := &checkOptions{}
	c := &cobra.Command{
		Use:   "check",
		Short: "Check every document, or what a branch would change",
		Long: `check reads the whole access repo the way a gateway will and reports everything that
is wrong, each with file, line, column and what to do. By default it reads the files
of the work tree, committed or not. It sees no history: that a sequence was used
before, or that a copy is an older one, is told with --base, and by sync.

With --base it judges a change instead: what a branch would make of the merged
documents. Every rule (trust root, settings, approval rules, policies) is then read
from the base alone, so that a change cannot loosen the rules that it is judged by;
only what the change touches is loaded; and it says, document by document, what the
change does. In the job of a pull request, as GitHub, Gitea and GitLab announce it, it
compares HEAD with the target branch unless told otherwise.

  --base origin/main --head HEAD   a branch
  --base auto                      the merged branch, or the pull request's target
  --base HEAD                      what is not committed yet
  --base HEAD --head "$(git write-tree)"   what is staged, as in a pre-commit hook

On a pull request approvals may still be missing: they are listed, and are no
problem. With --require-approved they are, as on the branch of merged reviews. What was
approved in pull requests counts as sync attested it, where the clone has the audit branch.

Reviews that were found good are remembered in your cache directory, by the digest of
everything that decides that, to save time on large repositories. In CI (when $CI is
set) and with --no-cache nothing is remembered.

--merge, in a job of its own, has the forge merge the pull request when auto_approve
rules of the base approve all that it changes and nothing is wrong with it. It takes
the job's token and no key; what people have to approve is left to them.

With --format github, or in a job of GitHub or Gitea, findings become annotations,
and the report is added to $GITHUB_STEP_SUMMARY when that is set.

Exit codes: 0 no errors (there may be warnings, and pending approvals), 1 errors were
found or the check could not be made, 2 the command line is wrong.`,
		Example: `  sallyport check
  sallyport check --base origin/main --head HEAD
  sallyport check --require-approved --ref origin/main
  sallyport check --base auto --format sarif > sallyport.sarif`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.format.check(g); err != nil {
				return err
			}
			r, err := o.run(c.Context(), g, c.Flags().Changed("base"), c.ErrOrStderr())
			if err != nil {
				return err
			}
			if o.protection {
				if err := g.assertProtection(c.Context(), r); err != nil {
					return err
				}
			}
			if err := summarise(r); err != nil {
				return err
			}
			err = o.format.write(c, r, ci.Text)
			if o.job == nil {
				return err
			}
			said, mergeErr := o.job.merge(c.Context())
			if said != "" {
				fmt.Fprintln(c.ErrOrStderr(), said)
			}
			if mergeErr != nil {
				return mergeErr
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&o.requireApproved, "require-approved", false, "a missing approval is a problem")
	f.StringVar(&o.ref, "ref", "", "commit to check as a whole (default: the files of the work tree)")
	f.StringVar(&o.base, "base", "", "judge a change to this commit; auto: the merged branch, or the pull request's target")
	f.StringVar(&o.head, "head", "", "commit or tree that would be merged (default: the files of the work tree; HEAD in a pull request's job)")
	f.StringVar(&o.merge, "merge", "", "merge this pull request, by its number or auto in its job, if auto_approve rules of the base approve all of it; needs SALLYPORT_FORGE_TOKEN")
	f.BoolVar(&o.protection, "protection", false, "also ask the forge whether it protects the merged branch; needs SALLYPORT_FORGE_TOKEN with administration read")
	f.BoolVar(&o.noCache, "no-cache", false, "remember nothing, and believe nothing that was remembered")
	o.format.add(c)
	g.jsonFlag(c)
	return c
}

// formatFlag chooses in which form a report is printed.
type formatFlag struct{ name string }

func (f *formatFlag) add(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "format", "", "text, "+strings.Join(ci.Formats, ", ")+" (default: text; github in a job of GitHub or Gitea)")
}

// check fills the default, and refuses a form that does not exist.
func (f *formatFlag) check(g *globals) error {
	switch {
	case g.json && f.name != "" && f.name != "json":
		return usage("--json and --format %s exclude each other", f.name)
	case g.json:
		f.name = "json"
	case f.name == "" && os.Getenv("GITHUB_ACTIONS") == "true":
		f.name = "github"
	case f.name == "":
		f.name = "text"
	}
	if f.name != "text" && !slices.Contains(ci.Formats, f.name) {
		return usage("--format %s does not exist: write text, %s", f.name, strings.Join(ci.Formats, ", "))
	}
	return nil
}

// write prints a report, as text with the given func.
func (f *formatFlag) write(c *cobra.Command, r *ci.Report, text func(out, errOut io.Writer, r *ci.Report)) error {
	if f.name == "text" {
		text(c.OutOrStdout(), c.ErrOrStderr(), r)
	} else if err := ci.Write(c.OutOrStdout(), f.name, r, build().Version); err != nil {
		return err
	}
	if !r.OK {
		return errQuiet
	}
	return nil
}

// summarise adds the report to the summary of a job on GitHub or Gitea.
func summarise(r *ci.Report) error {
	file := os.Getenv("GITHUB_STEP_SUMMARY")
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("the job's summary: %w", err)
	}
	_, err = f.WriteString(ci.Summary(r))
	return errors.Join(err, f.Close())
}

func (o *checkOptions) run(ctx context.Context, g *globals, baseGiven bool, errOut io.Writer) (*ci.Report, error) {
	options := ci.Options{Now: time.Now(), RequireApproved: o.requireApproved, Classifiers: classifiers()}
	target, inPullRequest := pullRequestTarget()
	switch {
	case o.ref != "" && (o.base != "" || o.head != ""):
		return nil, usage("--ref looks at one commit as a whole, --base and --head at a change: give one of the two")
	case o.merge != "" && (o.ref != "" || o.head != ""):
		return nil, usage("--merge judges the head of the pull request, without --ref and --head")
	case baseGiven && o.base == "":
		return nil, usage("--base is empty: name a commit, or write auto")
	case o.base != "" || o.head != "" || o.merge != "":
		return o.compare(ctx, g, options, target, errOut)
	case inPullRequest && o.ref == "" && !o.requireApproved:
		o.head = "HEAD"
		return o.compare(ctx, g, options, target, errOut)
	}
	files, done, err := g.documents(ctx, o.ref)
	if err != nil {
		return nil, err
	}
	defer done()
	plain := files
	files = g.attested(ctx, plain, errOut)
	if !o.noCache && os.Getenv("CI") == "" && files == plain { // what is known does not tell which attestations it stood on
		options.Known = g.known()
	}
	r, err := ci.Check(ctx, files, options)
	if err == nil && options.Known != nil {
		_ = options.Known.Save() // a cache that cannot be written costs time, and nothing else
	}
	return r, err
}

// attested is a tree with the attestations of the audit branch. It tells when some
// may be missing.
func (g *globals) attested(ctx context.Context, tree fs.FS, errOut io.Writer) fs.FS {
	repo, err := g.open(ctx)
	if err != nil {
		return tree // no access repo in git, and so no audit branch
	}
	settings, err := repo.mergedSettings(ctx)
	if err != nil {
		return tree // nothing is merged here that could be approved
	}
	attested, err := repo.withAttestations(ctx, tree, settings)
	if err != nil {
		fmt.Fprintf(errOut, "note: approvals in pull requests are not counted, since the audit branch cannot be read: %s\n", clean(err.Error()))
	}
	return attested
}

// known is what was found good in this repository before; nil without a cache directory.
func (g *globals) known() *ci.Known {
	dir, err := os.UserCacheDir()
	at, errAt := filepath.Abs(g.repo)
	if err != nil || errAt != nil {
		return nil
	}
	return ci.OpenKnown(filepath.Join(dir, "sallyport", "known", sha256Hex([]byte(at))[:16]), build().Version+" "+build().Commit)
}

// pullRequestTarget is the branch that the pull request of this CI job is to be
// merged into, as the CI system says. The change's own settings are not asked:
// they are part of what is judged.
func pullRequestTarget() (branch string, ok bool) {
	for _, name := range []string{"GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"} {
		if branch := os.Getenv(name); branch != "" {
			return branch, true
		}
	}
	return "", false
}

// compare judges what --head would change at --base.
func (o *checkOptions) compare(ctx context.Context, g *globals, options ci.Options, target string, errOut io.Writer) (*ci.Report, error) {
	repo, err := g.workTree(ctx)
	if err != nil {
		return nil, err
	}
	base, err := repo.baseCommit(ctx, o.base, target)
	if err != nil {
		return nil, err
	}
	if o.merge != "" {
		if o.job, err = o.openMerge(ctx, repo, base); err != nil {
			return nil, err
		}
		o.head = o.job.pull.Head
	}
	change, done, err := repo.change(ctx, base, o.head)
	if err != nil {
		return nil, err
	}
	defer done()
	change.Base = g.attested(ctx, change.Base, errOut) // which documents are granted
	options.Sequences = func(ctx context.Context, path string) (int64, error) { return repo.highestSequence(ctx, base, path) }
	objects := newGitObjects(ctx, repo.git)
	defer objects.close()
	options.Versions = func(ctx context.Context, path string) ([]ci.Version, error) {
		versions, err := repo.versions(ctx, objects, base, path)
		for i := range versions {
			versions[i].Tree = g.attested(ctx, versions[i].Tree, io.Discard) // it was said already
		}
		return versions, err
	}
	r, err := ci.Compare(ctx, change, options)
	if err != nil {
		return nil, err
	}
	r.Base, r.Head = base, o.head
	if o.job != nil {
		o.job.report, o.job.paths = r, change.Paths
	}
	return r, nil
}

// baseCommit is the commit that --base names.
func (r *accessRepo) baseCommit(ctx context.Context, base, target string) (string, error) {
	if base != "" && base != "auto" {
		if err := r.unambiguous(ctx, base); err != nil {
			return "", err
		}
		commit, err := r.git.git(ctx, "rev-parse", "--verify", "--end-of-options", base+"^{commit}")
		if err != nil {
			return "", hint(fmt.Errorf("--base %s is not a commit of %s", base, r.location), "fetch it; in CI, check out the whole history (fetch-depth: 0)")
		}
		return commit, nil
	}
	branch := r.branch
	if target != "" {
		branch = target
	}
	refs := []string{"refs/heads/" + branch}
	if remote := r.git.remote(ctx); remote != "" {
		refs = append([]string{"refs/remotes/" + remote + "/" + branch}, refs...)
	}
	for _, ref := range refs {
		if commit, err := r.git.git(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}"); err == nil {
			return commit, nil
		}
	}
	return "", hint(fmt.Errorf("branch %s, into which this would be merged, is not here", branch), "fetch it (in CI: check out the whole history, fetch-depth: 0), or name a commit with --base")
}

// unambiguous refuses a base that is the name of a branch and of something else. Whoever can push
// tags could otherwise put a commit of their own, with rules of their own, in the place of the branch.
func (r *accessRepo) unambiguous(ctx context.Context, base string) error {
	name := base
	if i := strings.IndexAny(base, "^~@:"); i >= 0 {
		name = base[:i]
	}
	var found []string
	for _, ref := range []string{name, "refs/" + name, "refs/tags/" + name, "refs/heads/" + name, "refs/remotes/" + name} {
		if !strings.HasPrefix(ref, "refs/") {
			continue
		}
		if _, err := r.git.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref); err == nil {
			found = append(found, ref)
		}
	}
	if len(found) > 1 {
		return hint(fmt.Errorf("--base %s is ambiguous: there are %s", base, strings.Join(found, " and ")), "delete the one that is not meant, or write the other one in full")
	}
	return nil
}

// change is what a commit, a tree or, for "", the work tree changes since it left
// the base. The files stay readable until done is called.
func (r *accessRepo) change(ctx context.Context, base, head string) (c ci.Change, done func(), err error) {
	objects := newGitObjects(ctx, r.git)
	defer func() {
		if err != nil {
			objects.close()
		}
	}()
	fork, err := r.paths(ctx, &c, base, head)
	if err != nil {
		return c, nil, err
	}
	if c.Upstream, err = r.git.differ(ctx, fork, base); err != nil {
		return c, nil, err
	}
	if slices.ContainsFunc(c.Paths, func(p string) bool { return ci.Managed(p) && !strings.HasPrefix(p, "reviews/") }) {
		if err = objects.preload(ctx, base); err != nil { // most reviews may stand on that
			return c, nil, err
		}
	}
	if c.Base, err = objects.tree(ctx, base); err != nil {
		return c, nil, err
	}
	c.Head = os.DirFS(r.git.dir)
	if head != "" {
		c.Head, err = objects.tree(ctx, head)
	}
	return c, objects.close, err
}

// paths fills in what the head changes since it left the base, and returns where that was.
func (r *accessRepo) paths(ctx context.Context, c *ci.Change, base, head string) (fork string, err error) {
	if head == "" {
		if fork, err = r.fork(ctx, base, "HEAD"); err != nil {
			return "", err
		}
		tracked, err := r.git.paths(ctx, "diff", "--no-renames", "--name-only", "-z", "--no-ext-diff", fork, "--")
		if err != nil {
			return "", err
		}
		untracked, err := r.git.paths(ctx, "ls-files", "--others", "--exclude-standard", "-z")
		c.Paths = append(tracked, untracked...)
		return fork, err
	}
	if _, err := r.git.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", head+"^{tree}"); err != nil {
		return "", hint(fmt.Errorf("--head %s is neither a commit nor a tree of %s", head, r.location), "fetch it first")
	}
	fork = base
	if commit, err := r.git.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", head+"^{commit}"); err == nil {
		if fork, err = r.fork(ctx, base, commit); err != nil {
			return "", err
		}
	}
	c.Paths, err = r.git.differ(ctx, fork, head)
	return fork, err
}

// fork is where a commit left the base.
func (r *accessRepo) fork(ctx context.Context, base, head string) (string, error) {
	fork, err := r.git.git(ctx, "merge-base", base, head)
	if err != nil {
		return "", hint(fmt.Errorf("%s and the base have no commit in common here", head), "in CI, check out the whole history (fetch-depth: 0); a branch with a history of its own cannot be merged")
	}
	return fork, nil
}

// differ are the paths that two commits or trees hold differently.
func (w *workTree) differ(ctx context.Context, a, b string) ([]string, error) {
	if a == b {
		return []string{}, nil
	}
	paths, err := w.diffNames(ctx, a, b)
	return append([]string{}, paths...), err // none is not the same as not known
}

// paths are what git prints with -z.
func (w *workTree) paths(ctx context.Context, args ...string) ([]string, error) {
	out, err := w.gitBytes(ctx, args...)
	if err != nil {
		return nil, err
	}
	list := []string{}
	for p := range strings.SplitSeq(string(out), "\x00") {
		if p != "" {
			list = append(list, p)
		}
	}
	return list, nil
}

// highestSequence is the highest sequence that the review at a path ever had on
// the first-parent line of a commit.
func (r *accessRepo) highestSequence(ctx context.Context, commit, path string) (int64, error) {
	if err := r.whole(ctx, "which sequences were used"); err != nil {
		return 0, err
	}
	out, err := r.git.git(ctx, "log", "--first-parent", "--diff-merges=first-parent", "--no-renames", "--format=%H", commit, "--", path)
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, id := range strings.Fields(out) {
		if b, ok := r.git.blob(ctx, id, path); ok {
			if review, err := reviews.ParseReview(path, b); err == nil {
				highest = max(highest, review.Spec.Sequence)
			}
		}
	}
	return highest, nil
}

// whole refuses a history that is cut off.
func (r *accessRepo) whole(ctx context.Context, what string) error {
	if shallow, err := r.git.git(ctx, "rev-parse", "--is-shallow-repository"); err != nil || shallow != "false" {
		return hint(errors.New("the history here is shallow, so nobody can tell "+what), "check out the whole history (fetch-depth: 0)")
	}
	return nil
}

// versions are the trees of the first-parent line of a commit just before and at each
// change of a document or its signatures, and its own, oldest first.
func (r *accessRepo) versions(ctx context.Context, objects *gitObjects, commit, path string) ([]ci.Version, error) {
	if err := r.whole(ctx, "which versions were replaced"); err != nil {
		return nil, err
	}
	changes, err := r.git.git(ctx, "log", "--first-parent", "--diff-merges=first-parent", "--no-renames", "--reverse", "--format=%H %P", commit, "--", path, path+".sigs")
	if err != nil {
		return nil, err
	}
	var ids []string
	for line := range strings.Lines(changes) {
		fields := strings.Fields(line)
		if len(fields) > 1 {
			ids = append(ids, fields[1])
		}
		ids = append(ids, fields[0])
	}
	var versions []ci.Version
	for _, id := range slices.Compact(append(ids, commit)) {
		tree, err := objects.tree(ctx, id)
		if err != nil {
			return nil, err
		}
		at, err := r.git.git(ctx, "log", "-1", "--format=%ct", id)
		if err != nil {
			return nil, err
		}
		seconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("commit %s has no time: %w", id, err)
		}
		versions = append(versions, ci.Version{Commit: id, At: time.Unix(seconds, 0), Tree: tree})
	}
	return versions, nil
}

// documents are the files of the work tree, or of a commit. A folder that holds
// an access repo is read as it is, also inside another repository. They stay
// readable until done is called.
func (g *globals) documents(ctx context.Context, ref string) (files fs.FS, done func(), err error) {
	dir := g.repo
	if dir == "" {
		dir = "."
	}
	if info, err := os.Stat(filepath.Join(dir, reviews.ConfigPath)); ref == "" && err == nil && info.Mode().IsRegular() {
		return os.DirFS(dir), func() {}, nil
	}
	repo, err := g.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if ref == "" && repo.mirror == nil {
		return os.DirFS(repo.git.dir), func() {}, nil
	}
	commit, err := repo.commitOf(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	objects := newGitObjects(ctx, repo.git)
	if err = objects.preload(ctx, commit); err == nil {
		files, err = objects.tree(ctx, commit)
	}
	if err != nil {
		objects.close()
		return nil, nil, err
	}
	return files, objects.close, nil
}
