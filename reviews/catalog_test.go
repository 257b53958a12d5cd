package reviews_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

const catalogPath = "connections/orders-db.catalog.json"

// pulled is what a pull made, of which reviews looks at nothing but the head.
const pulled = "{\n \"format\": 1\n}\n"

// ruledCatalog is an access repo in which carol approved the one catalog, because
// a rule asks for two of dba.
func ruledCatalog(t *testing.T) *access {
	a := newAccess(t)
	a.replace(reviews.ConfigPath, "  gateways:", "    - {match: {kinds: [Catalog]}, mode: signature, threshold: 2, groups: [dba]}\n  gateways:")
	a.sign(reviews.ConfigPath, "user:alice", "user:bob")
	a.write(catalogPath, string(reviews.BindCatalog(repo, "orders-db", []byte(pulled))))
	a.sign(catalogPath, "user:bob", "user:carol")
	return a
}

// TestCatalogAttacks has a row for each way to show reviewers a schema that the
// right people did not approve. In every row the catalog is left out, and
// the connection, which gateways serve by its live schema, stays.
func TestCatalogAttacks(t *testing.T) {
	tests := []struct {
		name   string
		attack func(a *access)
		want   string
	}{
		{"unsigned", func(a *access) { a.sign(catalogPath) }, "approvals[2] needs 2 of dba, has none"},
		{"one of two", func(a *access) { a.sign(catalogPath, "user:bob") }, "approvals[2] needs 2 of dba, has 1 (user:bob)"},
		{"not in the group", func(a *access) { a.sign(catalogPath, "user:bob", "user:dan") }, "has 1 (user:bob)"},
		{"edited after signing", func(a *access) { a.replace(catalogPath, `"format": 1`, `"format": 2`) }, "the signature is not over these bytes"},
		{"signed as a connection", func(a *access) {
			a.sign(catalogPath, "user:bob")
			a.addSignature(catalogPath, "user:carol", a.keys["user:carol"], reviews.NamespaceConnection, []byte(a.read(catalogPath)))
		}, `namespace "sallyport.connection.v1" where "sallyport.catalog.v1" is needed`},
		{"of another connection", func(a *access) {
			a.write(catalogPath, string(reviews.BindCatalog(repo, "other-db", []byte(pulled))))
			a.sign(catalogPath, "user:bob", "user:carol")
		}, "have it signed"},
		{"of another repository", func(a *access) {
			a.write(catalogPath, string(reviews.BindCatalog("6f0c2f5e-1111-4222-8333-444455556667", "orders-db", []byte(pulled))))
			a.sign(catalogPath, "user:bob", "user:carol")
		}, "have it signed"},
		{"bound to nothing", func(a *access) {
			a.write(catalogPath, pulled)
			a.sign(catalogPath, "user:bob", "user:carol")
		}, "sallyport catalog pull orders-db"},
		{"bound behind something else", func(a *access) {
			a.write(catalogPath, " "+string(reviews.BindCatalog(repo, "orders-db", []byte(pulled))))
			a.sign(catalogPath, "user:bob", "user:carol")
		}, "sallyport catalog pull orders-db"},
		{"revoked key", func(a *access) {
			a.root(fmt.Sprintf("  revoked: [{fingerprint: %q, reason: lost laptop}]\n", reviews.Key{Key: a.key("user:carol")}.Fingerprint()))
		}, "the key is revoked (lost laptop)"},
		{"tombstone", func(a *access) {
			sum := a.loaded().Connections["orders-db"].CatalogSource.SHA256
			a.root("  tombstones: [{sha256: " + sum + ", reason: doctored}]\n")
		}, "closes these contents for good (doctored)"},
		{"too large", func(a *access) {
			a.write(catalogPath, a.read(catalogPath)+strings.Repeat(" ", 32<<20))
		}, "the file has more than 33554432 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := ruledCatalog(t)
			if tree := a.loaded(); tree.Connections["orders-db"].Catalog == nil || len(tree.Problems) > 0 {
				t.Fatalf("before the attack: %v", tree.Problems)
			}
			tt.attack(a)
			tree := a.loaded()
			connection := tree.Connections["orders-db"]
			if connection == nil || tree.Reviews["orders-db/etl"] == nil {
				t.Fatalf("more than the catalog is closed: %v", tree.Problems)
			}
			if connection.Catalog != nil {
				t.Error("the catalog counts")
			}
			if len(tree.Problems) != 1 || tree.Problems[0].File != catalogPath || !strings.Contains(tree.Problems[0].Error(), tt.want) {
				t.Errorf("problems %v, want one with %q", tree.Problems, tt.want)
			}
		})
	}
}

// TestCatalogWithoutARule holds what repositories rely on that say nothing about
// catalogs: rules that name no kind, or others, are not about them.
func TestCatalogWithoutARule(t *testing.T) {
	a := newAccess(t)
	a.write(catalogPath, pulled)
	tree := a.loaded()
	if len(tree.Problems) > 0 || string(tree.Connections["orders-db"].Catalog) != pulled {
		t.Errorf("problems %v, catalog %q", tree.Problems, tree.Connections["orders-db"].Catalog)
	}
	if source := tree.Connections["orders-db"].CatalogSource; source.Path != "" {
		t.Errorf("a rule is said to be for it: %+v", source)
	}
}

// TestCatalogRuleIsForSome holds that a rule for the catalogs of some connections
// leaves those of others alone.
func TestCatalogRuleIsForSome(t *testing.T) {
	a := ruledCatalog(t)
	a.replace(reviews.ConfigPath, "kinds: [Catalog]", "kinds: [Catalog], connections: [prod-*]")
	a.sign(reviews.ConfigPath, "user:alice", "user:bob")
	a.sign(catalogPath)
	a.connection("prod-db", "")
	a.write("connections/prod-db.catalog.json", string(reviews.BindCatalog(repo, "prod-db", []byte(pulled))))
	tree := a.loaded()
	if tree.Connections["orders-db"].Catalog == nil || tree.Connections["prod-db"].Catalog != nil {
		t.Errorf("problems: %v", tree.Problems)
	}
}

// TestCatalogIsPending holds that a proposal shows a catalog that nobody approved
// yet, and says so.
func TestCatalogIsPending(t *testing.T) {
	a := ruledCatalog(t)
	a.sign(catalogPath)
	tree := a.loaded(report)
	if tree.Connections["orders-db"].Catalog == nil || len(tree.Pending) != 1 || tree.Pending[0].Path != catalogPath || tree.Pending[0].Kind != reviews.KindCatalog {
		t.Errorf("pending %+v, problems %v", tree.Pending, tree.Problems)
	}
}
