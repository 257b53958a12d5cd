package ci

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// Who owns an agent on the base does not give it away alone.
func TestOwnerBeforeDoesNotApprove(t *testing.T) {
	base := newAccess(t)
	base.put(agentPath, principalText("agent:etl", "user:bob", "agent:etl"), "user:carol")
	a := base.fork(t)
	a.put(agentPath, principalText("agent:etl", "user:alice", "agent:etl"), "user:bob")
	r := a.compare(base, true)
	expect(t, r, RuleApproval, Error, agentPath, "it was the owner before this change")
	if r.OK {
		t.Error("accepted")
	}
	a.put(agentPath, principalText("agent:etl", "user:alice", "agent:etl"), "user:carol")
	if r := a.compare(base, true); !r.OK {
		t.Errorf("refused: %v", r.Findings)
	}
}

// A risk is not lowered by fewer than the higher one asks for.
func TestRiskBeforeAsksForMore(t *testing.T) {
	base := newAccess(t)
	base.edit("sallyport.yaml", "  gateways:", "    - {match: {kinds: [Connection], risks: [high]}, mode: signature, threshold: 2, groups: [reviewers]}\n  gateways:", "user:bob", "user:carol")
	for _, path := range []string{ordersPath, "connections/prod-db.yaml"} {
		base.sign(path, "user:bob", "user:carol")
	}
	a := base.fork(t)
	a.edit(ordersPath, "risk: high", "risk: low", "user:bob")
	if r := a.compare(base, true); r.OK || len(r.Pending) == 0 || !strings.HasPrefix(r.Pending[0].Path, ordersPath) {
		t.Errorf("accepted, or for another reason: %+v", r)
	}
	a.sign(ordersPath, "user:bob", "user:carol")
	if r := a.compare(base, true); !r.OK {
		t.Errorf("refused: %v", r.Findings)
	}
}

// Deleting a document first does not make anybody forget its owner and its risk, nor does
// a version that is merged without approval.
func TestOwnerAndRiskOutliveADeletion(t *testing.T) {
	first := newAccess(t)
	first.edit("sallyport.yaml", "  gateways:", "    - {match: {kinds: [Connection], risks: [high]}, mode: signature, threshold: 2, groups: [reviewers]}\n  gateways:", "user:bob", "user:carol")
	first.put(agentPath, principalText("agent:etl", "user:bob", "agent:etl"), "user:carol")
	for _, path := range []string{ordersPath, "connections/prod-db.yaml"} {
		first.sign(path, "user:bob", "user:carol")
	}
	deleted := first.fork(t)
	deleted.remove(agentPath)
	deleted.unsign(ordersPath)
	delete(deleted.files, ordersPath)
	unsigned := first.fork(t)
	unsigned.edit(agentPath, "user:bob", "user:alice")
	unsigned.edit(ordersPath, "risk: high", "risk: low")
	for name, base := range map[string]*access{"deleted": deleted, "merged without approval": unsigned} {
		a := first.fork(t)
		a.edit(agentPath, "user:bob", "user:alice", "user:bob")
		a.edit(ordersPath, "risk: high", "risk: low", "user:bob")
		o := a.options(true)
		history := func(context.Context, string) ([]Version, error) {
			return []Version{{Commit: "first", At: noon, Tree: first.files}, {Commit: "second", At: noon, Tree: base.files}}, nil
		}
		compare := func() *Report {
			o.Versions = history
			r, err := Compare(t.Context(), Change{Base: base.files, Head: a.files}, o)
			if err != nil {
				t.Fatal(name, err)
			}
			return r
		}
		r := compare()
		expect(t, r, RuleApproval, Error, agentPath, "it was the owner before this change")
		expect(t, r, RuleApproval, Error, ordersPath, "not approved")
		a.sign(agentPath, "user:carol")
		a.sign(ordersPath, "user:bob", "user:carol")
		if r := compare(); !r.OK {
			t.Errorf("%s: refused: %v", name, r.Findings)
		}
		broken := errors.New("shallow")
		o.Versions = func(context.Context, string) ([]Version, error) { return nil, broken }
		if r, err := Compare(t.Context(), Change{Base: base.files, Head: a.files}, o); !errors.Is(err, broken) || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
