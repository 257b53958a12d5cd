package syncer

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

const catalogPath = "connections/orders-db.catalog.json"

func catalog(server string) string {
	return string(reviews.BindCatalog(repoID, "orders-db", []byte(`{"format": 1, "server": `+server+"}\n")))
}

// catalogIn is the catalog that the release carries, "" for none.
func (h *harness) catalogIn() string {
	h.t.Helper()
	full, err := release.Opener{Dir: h.out, Trust: release.Trust{RootDigest: h.a.pin}, Full: true}.Open(h.t.Context(), nil, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(full.Connections["orders-db"].Catalog)
}

// A catalog that its rule's people did not approve, or that was replaced, reaches
// no release, and no session is cut for it.
func TestCatalogs(t *testing.T) {
	a := newAccess(t)
	a.write(reviews.ConfigPath, strings.Replace(config(1), "  freshness:", "    - {match: {kinds: [Catalog]}, mode: signature, threshold: 2, groups: [reviewers]}\n  freshness:", 1))
	a.sign(reviews.ConfigPath, "user:bob")
	a.commit("a rule for catalogs")
	h := a.syncer()
	expect := func(catalog, about string) {
		t.Helper()
		h.expect("etl#1", about)
		if got := h.catalogIn(); got != catalog {
			t.Errorf("the release has the catalog %q, want %q", got, catalog)
		}
	}
	expect("", "")
	first, second := catalog("15"), catalog("16")
	a.write(catalogPath, first)
	a.sign(catalogPath, "user:bob")
	a.commit("one approval of two")
	expect("", catalogPath+": not approved: approvals[1] needs 2 of reviewers, has 1 (user:bob)")
	a.sign(catalogPath, "user:bob", "user:carol")
	a.commit("approved")
	expect(first, "")
	a.write(catalogPath, second)
	a.commit("changed, old signatures")
	expect("", catalogPath+": not approved")
	a.sign(catalogPath, "user:bob", "user:carol")
	a.commit("approved again")
	expect(second, "")
	a.write(catalogPath, first)
	a.sign(catalogPath, "user:bob", "user:carol")
	a.commit("an old signed version")
	expect("", catalogPath+": not granted: it is an older version")
	a.write(catalogPath, catalog("17"))
	a.sign(catalogPath, "user:bob", "user:carol")
	a.write(reviews.ConfigPath, a.read(reviews.ConfigPath)+"# changed\n")
	a.sign(reviews.ConfigPath, "user:bob")
	a.commit("with the settings that judge it")
	expect("", "changed it together with trust, config or policies")
	a.remove(catalogPath)
	a.commit("removed")
	expect("", "")
}

// A repository that says nothing about catalogs goes on as before.
func TestCatalogWithoutARule(t *testing.T) {
	a := newAccess(t)
	h := a.syncer()
	for _, text := range []string{"{}\n", `{"format": 1}`, "{}\n"} {
		a.write(catalogPath, text)
		a.commit("pull")
		if r := h.expect("etl#1", ""); len(r.Problems) > 0 {
			t.Errorf("problems: %v", r.Problems)
		}
		if got := string(h.release().Connections["orders-db"].Catalog); got != text {
			t.Errorf("the release has the catalog %q, want %q", got, text)
		}
	}
}
