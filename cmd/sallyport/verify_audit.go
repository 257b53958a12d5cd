package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// auditTrail is what the audit branch proves: the summaries that a gateway's
// own commits added. What a commit that does not hold says counts for nothing,
// and what it takes away is still there.
type auditTrail struct {
	where     string                    // branch and commit; "" when there is no such branch
	commits   int                       // of its history
	summaries map[string]record.Summary // by session; nil when there is no such branch
	approvals map[string][]byte         // attestations that sync's own commits added, by path
	taken     []release.Taken           // what the log of releases says was first seen when
	problems  []record.Problem
}

// auditTrail reads the audit branch commit by commit, the oldest first. least, when not
// "", is a commit that its history must have.
func (r *accessRepo) auditTrail(ctx context.Context, config *reviews.Config, trust trustHistory, least string) (*auditTrail, error) {
	source, head, err := r.auditCommit(ctx, config.Spec.Audit, config.Spec.Repository)
	t := &auditTrail{}
	if err != nil {
		return nil, err
	}
	if head == "" {
		if least != "" {
			t.problems = append(t.problems, record.Problem{Commit: least, Reason: "it was on the audit branch, and there is none any more: the branch was removed"})
		}
		return t, nil
	}
	t.where, t.summaries = config.Spec.Audit.Branch+" at "+head, map[string]record.Summary{}
	t.approvals = map[string][]byte{}
	out, err := source.git(ctx, "rev-list", "--reverse", "--topo-order", head)
	if err != nil {
		return nil, err
	}
	ids := strings.Split(out, "\n")
	changes, err := source.changes(ctx, ids)
	if err != nil {
		return nil, err
	}
	met := least == ""
	added, err := source.contents(ctx, changes)
	if err != nil {
		return nil, err
	}
	err = source.eachBlob(ctx, ids, func(i int, raw []byte) {
		t.commits++
		met = met || ids[i] == least
		if i == 0 && len(parents(raw)) > 0 || i > 0 && (len(parents(raw)) != 1 || parents(raw)[0] != ids[i-1]) {
			t.problem(ids[i], "", "it does not follow the commit before it: gateways never merge, and a shallow clone proves nothing")
			return
		}
		gateway, err := trust.committer(raw)
		if err != nil {
			t.problem(ids[i], "", err.Error())
			return
		}
		for _, c := range changes[ids[i]] {
			if err := t.take(gateway, trust, config.Spec.Branch, c, added[c.blob]); err != nil {
				t.problem(ids[i], c.path, err.Error())
			}
		}
	})
	if err == nil && !met {
		t.problem(least, "", "it is no longer in the history of the audit branch: the branch was rewound or rewritten")
	}
	return t, err
}

func (t *auditTrail) problem(commit, path, reason string) {
	t.problems = append(t.problems, record.Problem{Commit: commit, Path: path, Reason: reason})
}

// take adds the summary that a gateway's commit added.
// Sync, which is gateway "", adds its releases, and writes what it attests of pull
// requests, also in place of what others put there.
func (t *auditTrail) take(gateway string, trust trustHistory, branch string, c treeChange, content []byte) error {
	attests := gateway == "" && (c.path == "approvals" || strings.HasPrefix(c.path, "approvals/"))
	switch {
	case attests && c.status == "D":
		return nil // it was in the way; what sync attested before still counts
	case !attests && c.status != "A":
		return errors.New("it was changed or removed: gateways only add")
	case c.mode != "100644":
		return errors.New("it is not a plain file")
	case attests:
		t.approvals[c.path] = content // loading a review verifies it
		return nil
	case gateway == "" && strings.HasPrefix(c.path, "releases/"):
		return t.logged(trust, branch, content)
	case gateway == "":
		return errors.New("sync committed it, which adds approvals and releases and nothing else")
	}
	s, err := record.ParseSummary(c.path, content)
	if err != nil {
		return err
	}
	if s.Gateway != gateway {
		return fmt.Errorf("it is of gateway %s, and gateway %s committed it", s.Gateway, gateway)
	}
	if _, twice := t.summaries[s.Session]; twice {
		return errors.New("there is another summary of that session")
	}
	t.summaries[s.Session] = s
	return nil
}

// committer names the gateway that signed a commit, as git signs with an SSH
// key; "" when it was sync with a release key.
func (h trustHistory) committer(raw []byte) (string, error) {
	payload, signature, err := splitSignature(raw)
	if err != nil {
		return "", err
	}
	key, err := reviews.Verify(signature, reviews.NamespaceGit, payload)
	if err != nil {
		return "", fmt.Errorf("its signature does not hold: %w", err)
	}
	at, err := committed(payload)
	if err != nil {
		return "", err
	}
	if h.releaseKey(key, at) {
		return "", nil
	}
	gateway, err := h.gatewayOf(key, at)
	if err != nil {
		return "", fmt.Errorf("its signature is not a gateway's: %w", err)
	}
	return gateway, nil
}

// splitSignature takes the gpgsig header, which holds SSH signatures too, out of a commit.
func splitSignature(raw []byte) (payload, signature []byte, err error) {
	header, message, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return nil, nil, errors.New("it is not a commit")
	}
	inside, found := false, false
	for line := range bytes.Lines(append(header, '\n')) {
		first, begins := bytes.CutPrefix(line, []byte("gpgsig "))
		switch {
		case begins && found:
			return nil, nil, errors.New("it has two signatures")
		case begins:
			inside, found = true, true
			signature = append(signature, first...)
		case inside && line[0] == ' ':
			signature = append(signature, line[1:]...)
		default:
			inside = false
			payload = append(payload, line...)
		}
	}
	if !found {
		return nil, nil, errors.New("it is not signed: gateways sign every commit")
	}
	return append(append(payload, '\n'), message...), signature, nil
}

// committed is the committer's date, which the signature covers.
func committed(payload []byte) (time.Time, error) {
	for line := range bytes.Lines(payload) {
		if who, ok := bytes.CutPrefix(line, []byte("committer ")); ok {
			fields := strings.Fields(string(who[bytes.LastIndexByte(who, '>')+1:]))
			if len(fields) != 2 {
				break
			}
			seconds, err := strconv.ParseInt(fields[0], 10, 64)
			return time.Unix(seconds, 0).UTC(), err
		}
	}
	return time.Time{}, errors.New("it has no date")
}

func parents(raw []byte) (ids []string) {
	for line := range strings.Lines(string(raw)) {
		if id, ok := strings.CutPrefix(line, "parent "); ok {
			ids = append(ids, strings.TrimSpace(id))
		}
		if line == "\n" {
			break
		}
	}
	return ids
}

// treeChange is one path that a commit changed.
type treeChange struct{ status, mode, blob, path string }

// changes lists what each commit changed against its first parent, anywhere or in some folders.
func (w *workTree) changes(ctx context.Context, ids []string, folders ...string) (map[string][]treeChange, error) {
	args := append([]string{"diff-tree", "--stdin", "--root", "-r", "-z", "--no-renames", "--no-ext-diff", "--full-index", "-m", "--first-parent", "--"}, folders...)
	out, err := w.gitInput(ctx, strings.Join(ids, "\n")+"\n", args...)
	if err != nil {
		return nil, err
	}
	all := map[string][]treeChange{}
	commit := ""
	tokens := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	for i := 0; i < len(tokens); i++ {
		head, isChange := strings.CutPrefix(tokens[i], ":")
		if !isChange {
			commit, _, _ = strings.Cut(tokens[i], " ")
			continue
		}
		fields := strings.Fields(head)
		if i++; len(fields) != 5 || i >= len(tokens) || commit == "" {
			return nil, errors.New("git diff-tree: unexpected output")
		}
		all[commit] = append(all[commit], treeChange{status: fields[4], mode: fields[1], blob: fields[3], path: tokens[i]})
	}
	return all, nil
}

// contents reads the files that changes added or changed.
func (w *workTree) contents(ctx context.Context, changes map[string][]treeChange) (map[string][]byte, error) {
	var names []string
	for _, list := range changes {
		for _, c := range list {
			if c.status != "D" && strings.HasPrefix(c.mode, "100") {
				names = append(names, c.blob)
			}
		}
	}
	all := make(map[string][]byte, len(names))
	return all, w.eachBlob(ctx, names, func(i int, b []byte) { all[names[i]] = b })
}
