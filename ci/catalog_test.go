package ci

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// ruledCatalogs is an access repo whose catalogs security approves.
func ruledCatalogs(t *testing.T) *access {
	a := newAccess(t)
	a.edit(reviews.ConfigPath, "  gateways:", "    - {match: {kinds: [Catalog]}, mode: signature, threshold: 1, groups: [security]}\n  gateways:", "user:bob", "user:carol")
	for _, name := range []string{"orders-db", "prod-db"} {
		at := reviews.CatalogPath(name)
		a.put(at, string(reviews.BindCatalog(repoID, name, []byte(a.read(at)))), "user:dan")
	}
	return a
}

// A catalog decides what reviewers are shown, so whoever doctors one needs the
// approvals that its rule asks for, as with any document.
func TestCatalogRules(t *testing.T) {
	at := reviews.CatalogPath("orders-db")
	tests := []struct {
		name    string
		bend    func(a *access)
		rule    string // of the error with RequireApproved; "" for none
		pending bool   // without it
	}{
		{"column renamed in reviewers' sight", func(a *access) {
			a.put(at, strings.Replace(a.read(at), `"name":"status"`, `"name":"state"`, 1))
		}, RuleApproval, true},
		{"approved by the connection's people", func(a *access) { a.put(at, a.read(at)+"\n", "user:bob") }, RuleApproval, true},
		{"approved before it was changed", func(a *access) { a.write(at, a.read(at)+"\n") }, RuleApproval, true},
		{"signature taken out", func(a *access) { a.unsign(at) }, RuleApproval, true},
		{"that of another connection", func(a *access) { a.put(at, a.read(reviews.CatalogPath("prod-db")), "user:dan") }, RuleDocument, false},
		{"approved", func(a *access) { a.put(at, a.read(at)+"\n", "user:dan") }, "", false},
		{"signed once more", func(a *access) { a.sign(at, "user:dan", "user:bob") }, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := ruledCatalogs(t)
			a := base.fork(t)
			tt.bend(a)
			r := a.compare(base, true)
			if tt.rule == "" && !r.OK || tt.rule != "" && !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Rule == tt.rule && f.File == at && f.Severity == Error }) {
				t.Errorf("want an error of rule %q at %s: %+v", tt.rule, at, r.Findings)
			}
			r = a.compare(base, false)
			if got := slices.ContainsFunc(r.Pending, func(p reviews.Pending) bool { return p.Path == at }); got != tt.pending {
				t.Errorf("pending %v: %+v", got, r.Pending)
			}
		})
	}
	a := ruledCatalogs(t)
	a.unsign(at)
	r, err := Check(t.Context(), a.files, a.options(true))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Rule == RuleApproval && f.File == at }) {
		t.Errorf("Check accepts the catalog: %+v", r.Findings)
	}
}

// A change cannot take the rule for catalogs away together with what it keeps out.
func TestCatalogTogetherWithItsRule(t *testing.T) {
	base := ruledCatalogs(t)
	a := base.fork(t)
	a.put(reviews.ConfigPath, configText(""), "user:bob", "user:carol")
	a.write(reviews.CatalogPath("orders-db"), a.read(reviews.CatalogPath("orders-db"))+"\n")
	r := a.compare(base, true)
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Rule == RuleMixed && f.Severity == Error }) {
		t.Errorf("accepted: %+v", r.Findings)
	}
}
