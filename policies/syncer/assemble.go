package syncer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// grants is what a release may hold, and why it is not all that the head asks for.
type grants struct {
	tree *reviews.Tree
	// expired says why trust, config or policies that were good no longer load.
	expired string
}

// assemble loads what may be granted at the state's commit.
func (s *Syncer) assemble(st *state, now time.Time) (grants, error) {
	if st.Good == "" {
		return grants{}, fmt.Errorf("no commit of branch %s has usable trust, config and policies yet: %s", s.opt.Branch, st.Broken)
	}
	good, err := treeOf(s.mirror, st.Good)
	if err != nil {
		return grants{}, err
	}
	head, err := treeOf(s.mirror, st.Commit)
	if err != nil {
		return grants{}, err
	}
	var g grants
	if st.Broken == "" {
		g.tree, err = s.load(st, good, head, nil, now)
	} else {
		g.tree, err = s.load(st, good, head, good, now)
	}
	if err != nil {
		// What was good does not load any more: a key ran out. Nothing new is
		// granted until that is mended, and removals apply all the same.
		g.expired = err.Error()
		g.tree, err = s.standing(st, good, head)
	}
	if err != nil {
		return grants{}, fmt.Errorf("nothing can be granted at commit %s: %w", st.Commit, err)
	}
	g.tree.Problems = append(g.tree.Problems, st.closed(head)...)
	if st.Broken != "" {
		waiting, err := held(good, head)
		if err != nil {
			return grants{}, err
		}
		g.tree.Problems = append(g.tree.Problems, waiting...)
	}
	return g, nil
}

// load reads the documents of head that are not closed under the trust, config
// and policies of good. With a reference, only those documents and signatures
// count that it holds byte by byte.
func (s *Syncer) load(st *state, good, head, reference *gitrepo.Tree, at time.Time) (*reviews.Tree, error) {
	keep := func(doc, path string) bool {
		if st.Documents[doc].Closed != "" {
			return false
		}
		return reference == nil || same(reference, head, doc) && sameOrFolder(reference, head, path)
	}
	return reviews.Load(view{config: good, base: good, docs: head, keep: keep, whole: reference == nil}, reviews.LoadOptions{Now: at, Cache: s.cache})
}

// standing is what the newest release granted and the head still holds, judged
// as of when its trust, config and policies were found good.
func (s *Syncer) standing(st *state, good, head *gitrepo.Tree) (*reviews.Tree, error) {
	reference := good
	if st.Published != nil {
		var err error
		if reference, err = treeOf(s.mirror, st.Published.Commit); err != nil {
			return nil, err
		}
	}
	return s.load(st, good, head, reference, st.Judged)
}

// closed are the documents of head that the history closes.
func (st *state) closed(head *gitrepo.Tree) reviews.Problems {
	var out reviews.Problems
	for _, doc := range slices.Sorted(maps.Keys(st.Documents)) {
		reason := st.Documents[doc].Closed
		if reason == "" {
			continue
		}
		if _, err := head.ID(doc); err == nil {
			out = append(out, problem(doc, "not granted: "+reason))
		}
	}
	return out
}

// held are the documents that head added or changed since good.
func held(good, head *gitrepo.Tree) (reviews.Problems, error) {
	changes, err := gitrepo.Diff(good, head)
	if err != nil {
		return nil, err
	}
	touched, _ := sortOut(changes)
	var out reviews.Problems
	for _, doc := range slices.Sorted(maps.Keys(touched)) {
		if _, err := head.ID(doc); err == nil && !same(good, head, doc) {
			out = append(out, problem(doc, "not granted: it changed while trust, config or policies at the head are not usable: mend those first"))
		}
	}
	return out, nil
}

func problem(file, message string) reviews.Problem {
	return reviews.Problem{Position: reviews.Position{File: file}, Message: message}
}

// reviewName is the review that stands at a path.
func reviewName(path string) string {
	return strings.TrimSuffix(strings.TrimPrefix(path, "reviews/"), ".yaml")
}
