package ci

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

const autoRules = guardRules + `
auto_approve contains "reads" if {
	every rule in input.review.spec.allow { rule.verbs == ["select"] }
}
`

// automatic is an access repo whose rules admit reviews of orders-db that only read.
func automatic(t *testing.T) *access {
	a := newAccess(t)
	a.edit(reviews.ConfigPath, "mode: signature, threshold: 1, groups: [reviewers]}\n    - {match: {kinds: [AccessReview]", "mode: signature, auto: true, threshold: 1, groups: [reviewers]}\n    - {match: {kinds: [AccessReview]", "user:bob", "user:carol")
	a.put(guardPath, guardText(autoRules), "user:dan", "user:bob")
	return a
}

const newPath = "reviews/orders-db/new.yaml"

// Automatic approval is by the policies of the base, for reviews alone, and makes up one approval, not two.
func TestAutomaticApproval(t *testing.T) {
	reads := reviewText("orders-db/new", 1, "")
	writes := strings.Replace(reads, "verbs: [select], on: [app.orders, app.customers]", "verbs: [select, update], on: [app.orders, app.customers]", 1)
	for name, c := range map[string]struct {
		base      func(*access)
		change    func(*access)
		automatic []string
		pending   []string
	}{
		"it reads":      {change: func(a *access) { a.write(newPath, reads) }, automatic: []string{newPath}},
		"it writes":     {change: func(a *access) { a.write(newPath, writes) }, pending: []string{newPath}},
		"two are asked": {change: func(a *access) { a.write("reviews/prod-db/new.yaml", reviewText("prod-db/new", 1, "")) }, automatic: []string{"reviews/prod-db/new.yaml"}, pending: []string{"reviews/prod-db/new.yaml"}},
		"no rule says auto": {
			base:   func(a *access) { a.edit(reviews.ConfigPath, "auto: true, ", "", "user:bob", "user:carol") },
			change: func(a *access) { a.write(newPath, reads) }, pending: []string{newPath},
		},
		"the change brings the rule": {
			base: func(a *access) { a.put(guardPath, guardText(guardRules), "user:dan", "user:bob") },
			change: func(a *access) {
				a.put(guardPath, guardText(autoRules), "user:dan", "user:bob")
				a.write(newPath, reads)
			}, pending: []string{newPath},
		},
		"the change brings the setting": {
			base: func(a *access) { a.edit(reviews.ConfigPath, "auto: true, ", "", "user:bob", "user:carol") },
			change: func(a *access) {
				a.edit(reviews.ConfigPath, "mode: signature, threshold: 1, groups: [reviewers]}\n    - {match: {kinds: [AccessReview]", "mode: signature, auto: true, threshold: 1, groups: [reviewers]}\n    - {match: {kinds: [AccessReview]", "user:bob", "user:carol")
				a.write(newPath, reads)
			}, pending: []string{newPath},
		},
		"a connection": {change: func(a *access) { a.edit(ordersPath, "risk: high", "risk: low") }, pending: []string{ordersPath}},
		"a rule that fails": {
			base: func(a *access) {
				a.put(guardPath, guardText(guardRules+"auto_approve contains \"x\" if time.parse_rfc3339_ns(input.review.spec.requester) > 0\n"), "user:dan", "user:bob")
			},
			change: func(a *access) { a.write(newPath, reads) }, pending: []string{newPath},
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := automatic(t)
			if c.base != nil {
				c.base(base)
			}
			a := base.fork(t)
			c.change(a)
			r := a.compare(base, false)
			var pending []string
			for _, p := range r.Pending {
				pending = append(pending, p.Path)
			}
			if !slices.Equal(r.Automatic, c.automatic) || !slices.Equal(pending, c.pending) {
				t.Errorf("automatic %v, pending %v: %v", r.Automatic, pending, r.Findings)
			}
		})
	}
}

// What was approved automatically is granted: it is no error on the merged branch, a change that touches its connection is held against
// it, and taking the rule away says what it closes.
func TestAutomaticallyApprovedIsGranted(t *testing.T) {
	base := automatic(t)
	base.write(newPath, reviewText("orders-db/new", 1, ""))
	r, err := Check(t.Context(), base.files, base.options(true))
	if err != nil || !r.OK {
		t.Errorf("the merged branch: %v, %v", r.Findings, err)
	}
	a := base.fork(t)
	a.put(guardPath, guardText(guardRules), "user:dan", "user:bob")
	expect(t, a.compare(base, true), RuleCloses, Warning, newPath, "its approvals would not be enough")
}

// On the merged branch a document that may have been approved in its pull request is no error: sync attests that after the merge.
func TestAwaitingAttestation(t *testing.T) {
	a := newAccess(t)
	a.edit(reviews.ConfigPath, "    - {match: {}, mode: signature, threshold: 1, groups: [reviewers]}", "    - {match: {}, mode: signature, threshold: 1, groups: [reviewers]}\n    - {match: {kinds: [AccessReview], paths: [reviews/orders-db/new.yaml]}, mode: forge, threshold: 1, groups: [security]}", "user:bob", "user:carol")
	a.edit(reviews.ConfigPath, "  gateways:", "  forge: {kind: gitea, url: https://git.example, repository: acme/access}\n  gateways:", "user:bob", "user:carol")
	a.put(newPath, reviewText("orders-db/new", 1, ""), "user:bob")
	r, err := Check(t.Context(), a.files, a.options(true))
	if err != nil || !r.OK {
		t.Errorf("%v, %v", r, err)
	}
	expect(t, r, RuleApproval, Warning, newPath, "once the approvals of its pull request are attested")

	a.unsign(newPath) // now a signature is missing, too
	r, err = Check(t.Context(), a.files, a.options(true))
	if err != nil || r.OK {
		t.Errorf("%v, %v", r, err)
	}
	expect(t, r, RuleApproval, Error, newPath, "not approved")
}
