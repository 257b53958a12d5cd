package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/reviews"
)

// grants checks what recordings stood on against the history of the access
// repo: the review's bytes, who approved them, and under which trust root.
type grants struct {
	repo      *accessRepo
	trust     trustHistory
	line      map[string]int // commits of the merged branch's first-parent line; 0 is the newest
	ids       []string
	cache     *reviews.Cache
	known     map[string]error  // checked already
	approvals map[string][]byte // attestations of the audit branch
	seen      map[string]time.Time
	automatic map[string]automatic // by review, bytes and commit
}

func (r *accessRepo) grants(ctx context.Context, merged *snapshot, trust trustHistory) (*grants, error) {
	out, err := r.git.git(ctx, "rev-list", "--first-parent", merged.commit)
	if err != nil {
		return nil, err
	}
	g := &grants{repo: r, trust: trust, line: map[string]int{}, ids: strings.Split(out, "\n"), cache: reviews.NewCache(), known: map[string]error{}, automatic: map[string]automatic{}}
	for i, id := range g.ids {
		g.line[id] = i
	}
	return g, nil
}

// check is nil when the grant was merged and approved as it says. It is judged
// as of its use, since keys come and go, and approvals as of when sync first saw
// them, where the log of releases tells.
func (g *grants) check(ctx context.Context, want record.Grant) error {
	at := want.At.UTC().Truncate(time.Hour)
	key := fmt.Sprint(want.Principal, want.Connection, want.Review, want.ReviewSHA256, want.ReviewCommit, want.Approvers, want.ReleaseCommit, at)
	err, known := g.known[key]
	if !known {
		err = g.judge(ctx, want)
		g.known[key] = err
	}
	return err
}

func (g *grants) judge(ctx context.Context, want record.Grant) error {
	if !reviews.IsReview(want.Review) || !strings.HasPrefix(want.Review, want.Connection+"/") {
		return fmt.Errorf("%q is not a review of connection %s", want.Review, want.Connection)
	}
	if want.ReleaseCommit == "" {
		return g.reloaded(ctx, want)
	}
	reviewed, err := g.merged("review", want.ReviewCommit)
	if err != nil {
		return err
	}
	released, err := g.merged("release", want.ReleaseCommit)
	if err != nil {
		return err
	}
	if reviewed < released {
		return fmt.Errorf("review commit %.12s came after release commit %.12s", want.ReviewCommit, want.ReleaseCommit)
	}
	for _, commit := range []string{want.ReviewCommit, want.ReleaseCommit} {
		if err := g.holds(ctx, commit, want); err != nil {
			return err
		}
	}
	review, err := g.approved(ctx, released, want)
	if err != nil {
		return err
	}
	for _, who := range want.Approvers {
		if !slices.Contains(review.Source.Approvals, who) {
			return fmt.Errorf("%s did not approve review %s at release commit %.12s: %s did", who, want.Review, want.ReleaseCommit, strings.Join(review.Source.Approvals, ", "))
		}
	}
	if len(want.Approvers) == 0 {
		return fmt.Errorf("it names nobody who approved review %s", want.Review)
	}
	return nil
}

// reloaded judges bytes of the review that a newer release brought, of which the recording names no commit.
func (g *grants) reloaded(ctx context.Context, want record.Grant) error {
	path := reviews.PathOf(reviews.KindReview, want.Review)
	out, err := g.repo.git.git(ctx, "log", "--first-parent", "--format=%H", g.ids[0], "--", path, path+".sigs")
	if err != nil {
		return err
	}
	reason := fmt.Errorf("no merged commit has a review %s of sha256 %s", want.Review, want.ReviewSHA256)
	for _, id := range strings.Fields(out) {
		if g.holds(ctx, id, want) != nil {
			continue
		}
		if _, reason = g.approved(ctx, g.line[id], want); reason == nil {
			return nil
		}
	}
	return reason
}

// merged is a commit's place on the first-parent line, which is what the branch really was.
func (g *grants) merged(what, commit string) (int, error) {
	place, ok := g.line[commit]
	if !ok {
		return 0, fmt.Errorf("%s commit %.12s is not on the merged branch of this clone: fetch it; if it is still missing, it was never merged or the branch was rewritten", what, commit)
	}
	return place, nil
}

// holds checks the review's bytes at a commit.
func (g *grants) holds(ctx context.Context, commit string, want record.Grant) error {
	path := reviews.PathOf(reviews.KindReview, want.Review)
	b, ok := g.repo.git.blob(ctx, commit, path)
	if !ok {
		return fmt.Errorf("commit %.12s has no %s", commit, path)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want.ReviewSHA256 {
		return fmt.Errorf("%s of commit %.12s has sha256 %x, not %s", path, commit, sum, want.ReviewSHA256)
	}
	return nil
}

// approved is the review as it was granted at a place of the line. When trust,
// config or policies were broken there, those before them were in force.
func (g *grants) approved(ctx context.Context, place int, want record.Grant) (*reviews.Review, error) {
	docs, err := g.documents(ctx, g.ids[place], want)
	if err != nil {
		return nil, err
	}
	var first error
	for back := place; back < len(g.ids); back++ {
		base := docs
		if back > place {
			if base, err = g.repo.git.files(ctx, g.ids[back], basePaths...); err != nil {
				return nil, err
			}
			for name, f := range docs {
				if !isBase(name) {
					base[name] = f
				}
			}
		}
		said := make(map[string][]string)
		tree, err := reviews.Load(base, reviews.LoadOptions{
			Now: want.At, Cache: g.cache,
			Seen:        func(sha256 string) time.Time { return g.seen[sha256] },
			AutoApprove: autoApproval(ctx, base, said),
		})
		if err == nil && !g.trust.holds(tree.Root.Source.SHA256) {
			err = fmt.Errorf("the trust root of commit %.12s is sha256:%s, for which nobody vouches: pin it with --trust-root if you know it", g.ids[back], tree.Root.Source.SHA256)
		}
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		review, err := g.fits(tree, g.ids[place], want)
		if err == nil && slices.Contains(review.Source.Approvals, reviews.AutoApproval) {
			a := automatic{want.Review, want.ReviewSHA256, g.ids[place], said[want.Review]}
			g.automatic[a.Review+a.SHA256+a.Commit] = a
		}
		return review, err
	}
	return nil, first
}

func (g *grants) fits(tree *reviews.Tree, commit string, want record.Grant) (*reviews.Review, error) {
	review := tree.Reviews[want.Review]
	switch {
	case review == nil:
		for _, p := range tree.Problems {
			if strings.HasPrefix(p.Error(), reviews.PathOf(reviews.KindReview, want.Review)) {
				return nil, fmt.Errorf("at commit %.12s: %w", commit, p)
			}
		}
		return nil, fmt.Errorf("review %s was not granted at commit %.12s: %w", want.Review, commit, tree.Problems.Err())
	case review.Spec.Subject != want.Principal:
		return nil, fmt.Errorf("review %s is for %s, not for %s", want.Review, review.Spec.Subject, want.Principal)
	case want.At.Before(review.Spec.Validity.NotBefore), !want.At.Before(review.Spec.Validity.Expires):
		return nil, fmt.Errorf("review %s was valid from %s to %s, and this was at %s", want.Review, stamp(review.Spec.Validity.NotBefore), stamp(review.Spec.Validity.Expires), stamp(want.At))
	}
	return review, nil
}

// basePaths are what documents are judged under.
var basePaths = []string{reviews.ConfigPath, reviews.ConfigPath + ".sigs", "trust", "policies"}

func isBase(name string) bool {
	return slices.ContainsFunc(basePaths, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
}

// documents reads what bears on one review at a commit.
func (g *grants) documents(ctx context.Context, commit string, want record.Grant) (fstest.MapFS, error) {
	paths := append([]string{"principals"}, basePaths...)
	for _, doc := range []string{reviews.PathOf(reviews.KindReview, want.Review), reviews.PathOf(reviews.KindConnection, want.Connection)} {
		paths = append(paths, doc, doc+".sigs") // and no catalog, by which nothing was granted
	}
	files, err := g.repo.git.files(ctx, commit, paths...)
	for name, b := range g.approvals {
		if err == nil {
			files[name] = &fstest.MapFile{Data: b, Mode: 0o644}
		}
	}
	return files, err
}
