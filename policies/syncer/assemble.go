package syncer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// assemble loads what may be granted at the state's commit: the documents of
// the head that are not closed, under the trust, config and policies in force.
// While those of the head are not usable, only those documents and signatures
// count that the last good commit holds byte by byte.
func (s *Syncer) assemble(ctx context.Context, now time.Time) (*reviews.Tree, error) {
	st := s.state
	if st.Good == "" {
		return nil, fmt.Errorf("no commit of branch %s has usable trust, config and policies yet: %s", s.opt.Branch, st.Broken)
	}
	good, err := treeOf(s.mirror, st.Good)
	if err != nil {
		return nil, err
	}
	head, err := treeOf(s.mirror, st.Commit)
	if err != nil {
		return nil, err
	}
	trust, err := st.trustTree(s.mirror, good)
	if err != nil {
		return nil, err
	}
	broken := st.Broken != ""
	keep := func(doc, path string) bool {
		return st.Documents.of(doc).Closed == "" && (!broken || same(good, head, doc) && sameOrFolder(good, head, path))
	}
	opt, seen := st.options(now, s.cache)
	opt.AutoApprove = s.autoApproval(ctx, good)
	in := s.known(now)
	in.Seen = seen
	opt.Judged = func(c *reviews.Connection, f *reviews.Folder) {
		_ = s.built.Prepare(in, c, f) // building the release finds the same error
	}
	if broken { // they were judged when they came in; what a new trust root voids is in Broken
		opt.Standing = func(path, sha256 string) bool { return inBase(path) && st.Documents.of(path).Accepted == sha256 }
	}
	tree, err := reviews.Load(view{
		trust: trust, config: good, policies: good, docs: head, audit: s.audit.files(), keep: keep, whole: !broken, hidden: st.hidden(),
	}, opt)
	if err != nil {
		return nil, fmt.Errorf("nothing can be granted at commit %s: %w", st.Commit, err)
	}
	tree.Problems = append(tree.Problems, st.closed(head)...)
	if broken {
		waiting, err := held(good, head)
		if err != nil {
			return nil, err
		}
		tree.Problems = append(tree.Problems, waiting...)
	}
	return tree, nil
}

// autoApproval asks the policies in force. A review that came with its connection, or
// with a change of that, gets no answer: the rule was not true before. An answer is remembered, since the
// same documents always get the same one.
func (s *Syncer) autoApproval(ctx context.Context, good *gitrepo.Tree) func(*reviews.Review, *reviews.Connection) string {
	var policy *policies.Policy
	return func(r *reviews.Review, c *reviews.Connection) string {
		if s.state.Documents.of(c.Source.Path).Commit == s.state.Documents.of(r.Source.Path).Commit {
			return ""
		}
		if policy == nil {
			var err error
			if policy, err = s.policyOf(ctx, good); err != nil {
				s.log.Error("automatic approvals are off: the policies do not compile", "error", err)
				return ""
			}
		}
		key := r.Source.SHA256 + c.Source.SHA256
		answer, known := s.auto[key]
		if !known {
			messages, err := policy.AutoApprove(ctx, policies.NewDocument(r.JSON()), policies.NewDocument(c.JSON()))
			if err != nil {
				s.log.Warn("an automatic approval failed, so there is none", "review", r.Metadata.Name, "error", err)
				return ""
			}
			answer = strings.Join(messages, "; ")
			s.auto[key] = answer
		}
		return answer
	}
}

// policyOf compiles the policies of a commit, once for the same ones.
func (s *Syncer) policyOf(ctx context.Context, t *gitrepo.Tree) (*policies.Policy, error) {
	id, err := t.ID("policies")
	if err != nil && !isMissing(err) {
		return nil, err
	}
	if s.policy != nil && s.policyID == id {
		return s.policy, nil
	}
	list, err := t.ReadDir("policies")
	if err != nil && !isMissing(err) {
		return nil, err
	}
	sources := map[string][]byte{}
	for _, e := range list {
		name := "policies/" + e.Name()
		if reviews.KindOf(name) != reviews.KindPolicy {
			continue
		}
		if sources[name], err = t.ReadFile(name); err != nil {
			return nil, err
		}
	}
	policy, err := policies.Compile(ctx, sources)
	if err != nil {
		return nil, err
	}
	s.policy, s.policyID, s.auto = policy.WithTimeout(10*time.Second), id, map[string]string{} // no session waits here
	return s.policy, nil
}

// hidden are the folders of documents that the history closes.
func (st *state) hidden() map[string]bool {
	folders := map[string]bool{}
	for doc, m := range st.Documents.all() {
		if m.Closed != "" {
			folders[path.Dir(doc)] = true
		}
	}
	return folders
}

// closed are the documents of head that the history closes.
func (st *state) closed(head *gitrepo.Tree) reviews.Problems {
	var out reviews.Problems
	for doc, m := range st.Documents.all() {
		if m.Closed == "" {
			continue
		}
		if _, err := head.ID(doc); err == nil {
			out = append(out, problem(doc, "not granted: "+m.Closed))
		}
	}
	out.Sort()
	return out
}

// held are the documents that head added or changed since good.
func held(good, head *gitrepo.Tree) (reviews.Problems, error) {
	changes, err := diff(good, head)
	if errors.Is(err, gitrepo.ErrTooMuch) {
		return nil, nil // the alarm about the base says so
	}
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
