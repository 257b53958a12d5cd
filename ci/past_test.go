package ci

import (
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
