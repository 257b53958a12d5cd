package release_test

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

func TestOpenGivesWhatWasBuilt(t *testing.T) {
	r := newRepo(t)
	opened, err := r.open(r.publish(7))
	if err != nil {
		t.Fatal(err)
	}
	if e := opened.Envelope; e.Sequence != 7 || e.Repository != "https://git.example.com/access.git" || !e.ValidUntil.Equal(now.Add(24*time.Hour)) || opened.Sequences["orders-db"]["etl-nightly"] != 4 {
		t.Errorf("envelope %+v", e)
	}
	if opened.Digest != opened.Envelope.Digest() {
		t.Error("the digest is not the envelope's")
	}
	c := opened.Connections["orders-db"]
	if c == nil || c.Document.Spec.Credential != "env:ORDERS_DB_PASSWORD" || string(c.Catalog) != "{}\n" {
		t.Fatalf("connection %+v", c)
	}
	candidates := c.Candidates("agent:etl")
	if len(candidates) != 1 || candidates[0] != c.Review("orders-db/etl-nightly") || len(c.Candidates("agent:other")) != 0 {
		t.Fatalf("candidates %v", candidates)
	}
	review := candidates[0]
	if review.Commit[0] != 'b' || !review.ApprovedAt.Equal(now.Add(-time.Hour)) || !slices.Equal(review.Approvers, []string{"user:bob"}) || review.Document.Source.Lines["allow[0]"] == 0 {
		t.Errorf("review %+v", review)
	}
	if p := opened.Principals["agent:etl"]; p == nil || p.Owner != "user:alice" || len(p.Keys) != 1 {
		t.Errorf("principal %+v", p)
	}
	if p := opened.Principals["user:bob"]; p == nil || len(p.Keys) != 1 {
		t.Errorf("principal of the root %+v", p)
	}
	decide(t, opened, review, "select", policies.Allow, "allow[0]")
	decide(t, opened, review, "delete", policies.Deny, "policies/hours.rego")
	decide(t, opened, review, "truncate", policies.Hold, "hold[0]")
	decide(t, opened, review, "drop", policies.Deny, "default")
}

func decide(t *testing.T, r *release.Release, review *release.Review, verb string, verdict policies.Verdict, rule string) {
	t.Helper()
	got, err := r.Policy.Decide(context.Background(), policies.Input{
		Now: now, Principal: "agent:etl", Connection: r.Connections["orders-db"].JSON, Review: review.JSON,
		Command: policies.Command{Protocol: "postgres", Statement: verb, Effects: []policies.Effect{{Verb: verb, Object: "app.orders"}}},
	})
	if err != nil || got.Verdict != verdict || got.Rule != rule {
		t.Errorf("%s: %v %+v, %v", verb, got.Verdict, got, err)
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	a, b := newRepo(t).build(7), newRepo(t).build(7)
	if a.Envelope.Digest() != b.Envelope.Digest() || !slices.Equal(slices.Sorted(maps.Keys(a.Bundles)), slices.Sorted(maps.Keys(b.Bundles))) {
		t.Error("the same tree made different releases")
	}
}

// A heartbeat and a new commit must not give new addresses to what is unchanged.
func TestUnchangedBundlesKeepTheirAddress(t *testing.T) {
	r := newRepo(t)
	r.connection("billing-db")
	before := r.build(7)
	r.review("orders-db/etl-nightly", 5, "app.items")
	in := r.input(8)
	in.Commit, in.Now = "cccc", now.Add(time.Hour)
	after, err := release.Build(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	for name, sum := range before.Envelope.Bundles {
		if same, want := after.Envelope.Bundles[name] == sum, !strings.HasSuffix(name, "/orders-db"); same != want {
			t.Errorf("bundle %s: same address: %v", name, same)
		}
	}
}

func TestReviewWhoseSequenceWentBackIsClosed(t *testing.T) {
	r := newRepo(t)
	in := r.input(7)
	in.History = map[string]release.History{"orders-db": {"etl-nightly": {Sequence: 5}, "gone": {Sequence: 9}}, "gone-db": {"x": {Sequence: 2}}}
	built, err := release.Build(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	if built.Closed["orders-db/etl-nightly"] == "" {
		t.Errorf("closed %v", built.Closed)
	}
	dir := t.TempDir()
	if err := release.Publish(dir, built, r.keys["release"]); err != nil {
		t.Fatal(err)
	}
	opened, err := r.open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]release.Sequences{"orders-db": {"etl-nightly": 5, "gone": 9}, "gone-db": {"x": 2}}
	if !maps.EqualFunc(opened.Sequences, want, maps.Equal) {
		t.Errorf("sequences %v", opened.Sequences)
	}
	if opened.Connections["orders-db"].Review("orders-db/etl-nightly") != nil {
		t.Error("the older review is in the release")
	}
}

func TestBuildRefusesABadPolicy(t *testing.T) {
	r := newRepo(t)
	r.policy("bad", "package access\n\ndeny if true\n")
	_, err := release.Build(context.Background(), r.input(7))
	wantError(t, err, "policies/bad.rego:4:1", "set of messages")
}

// The documents of a release make the same tree as the commit did.
func TestDocumentsLoadAgain(t *testing.T) {
	r := newRepo(t)
	opened, err := r.open(r.publish(7))
	if err != nil {
		t.Fatal(err)
	}
	files, err := opened.Documents()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range r.files {
		if got, err := fs.ReadFile(files, name); err != nil || string(got) != string(want.Data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tree, err := reviews.Load(files, reviews.LoadOptions{Now: now})
	if err != nil || len(tree.Problems) > 0 || len(tree.Reviews) != 1 {
		t.Fatalf("%v, %v, %d reviews", err, tree.Problems, len(tree.Reviews))
	}
	in := r.input(7)
	in.Tree = tree
	again, err := release.Build(context.Background(), in)
	if err != nil || again.Envelope.Digest() != opened.Digest {
		t.Errorf("the release rebuilt from its documents differs: %v", err)
	}
}

func TestOpenerTakesOverWhatIsUnchanged(t *testing.T) {
	r := newRepo(t)
	r.connection("billing-db")
	r.review("orders-db/other", 1, "app.items")
	first, err := r.open(r.publish(7))
	if err != nil {
		t.Fatal(err)
	}
	r.review("orders-db/other", 2, "app.parts")
	second, err := release.Opener{Dir: r.publish(8), Trust: r.trust()}.Open(context.Background(), first, now)
	if err != nil {
		t.Fatal(err)
	}
	orders := func(r *release.Release, name string) *release.Review { return r.Connections["orders-db"].Review(name) }
	switch {
	case first.Policy != second.Policy, first.Connections["billing-db"] != second.Connections["billing-db"]:
		t.Error("unchanged bundles were read again")
	case orders(first, "orders-db/etl-nightly") != orders(second, "orders-db/etl-nightly"):
		t.Error("the unchanged review was parsed again")
	case orders(second, "orders-db/other").Document.Spec.Sequence != 2:
		t.Error("the changed review was not taken")
	}
}

// The same reviews, of which the cache knows the bundle, with everything else that
// the bundle is made of changed in turn.
func TestCacheOfABundleNeverShows(t *testing.T) {
	const name = "orders-db/etl-nightly"
	r, cache := newRepo(t), release.NewCache()
	base := r.input(7)
	base.Seen = func(string) time.Time { return now }
	for what, change := range map[string]func(*release.BuildInput){
		"another commit": func(in *release.BuildInput) { in.History = seen(release.Seen{Commit: "c", At: now}) },
		"another time": func(in *release.BuildInput) {
			in.History = seen(release.Seen{Commit: "c", At: now.Add(time.Second)})
		},
		"no history":        func(in *release.BuildInput) { in.History = nil },
		"signatures later":  func(in *release.BuildInput) { in.Seen = func(string) time.Time { return now.Add(time.Second) } },
		"signatures unseen": func(in *release.BuildInput) { in.Seen = func(string) time.Time { return time.Time{} } },
		"no sightings":      func(in *release.BuildInput) { in.Seen = nil },
		"used sequence":     func(in *release.BuildInput) { in.History = seen(release.Seen{Sequence: 99, Commit: "c", At: now}) },
		"connection's signatures": func(in *release.BuildInput) {
			c := *in.Tree.Connections["orders-db"]
			c.Source.Signatures = map[string][]byte{"x.sig": []byte("x")}
			in.Tree.Connections["orders-db"] = &c
		},
		"catalog": func(in *release.BuildInput) {
			c := *in.Tree.Connections["orders-db"]
			c.Catalog = []byte("{}")
			in.Tree.Connections["orders-db"] = &c
		},
		"review gone": func(in *release.BuildInput) { delete(in.Tree.Reviews, name) },
	} {
		build := func(in release.BuildInput, c *release.Cache) *release.Built {
			t.Helper()
			in.Cache = c
			built, err := release.Build(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			return built
		}
		before := build(base, cache)
		in, tree := base, *base.Tree
		tree.Reviews, tree.Connections = maps.Clone(tree.Reviews), maps.Clone(tree.Connections)
		in.Tree = &tree
		change(&in)
		got, want := build(in, cache), build(in, nil)
		if !maps.Equal(got.Envelope.Bundles, want.Envelope.Bundles) {
			t.Errorf("%s: a Build with a cache differs from one without", what)
		}
		if got.Envelope.Bundles["connection/orders-db"] == before.Envelope.Bundles["connection/orders-db"] {
			t.Errorf("%s: it makes no difference, so this tests nothing", what)
		}
	}
}

// A cache must never show in what is built, whatever changed since it was filled.
func TestCacheNeverShows(t *testing.T) {
	r, cache := newRepo(t), release.NewCache()
	same := func(what string, change func(*release.BuildInput)) {
		t.Helper()
		in := r.input(7)
		change(&in)
		want, err := release.Build(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		in.Cache = cache
		for range 2 {
			got, err := release.Build(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got.Envelope.Bundles, want.Envelope.Bundles) || !maps.EqualFunc(got.Bundles, want.Bundles, bytes.Equal) {
				t.Errorf("%s: a Build with a cache differs from one without", what)
			}
		}
	}
	none := func(*release.BuildInput) {}
	same("first", none)
	same("seen in another commit", func(in *release.BuildInput) {
		in.History = seen(release.Seen{Commit: strings.Repeat("c", 40), At: now})
	})
	same("seen at another time", func(in *release.BuildInput) {
		in.History = seen(release.Seen{Commit: strings.Repeat("c", 40), At: now.Add(-time.Second)})
	})
	same("other approvers", func(in *release.BuildInput) {
		in.Tree.Reviews["orders-db/etl-nightly"].Source.Approvals = []string{"user:bob", "user:carol"}
	})
	r.review("orders-db/etl-nightly", 5, "app.items")
	same("other bytes", none)
	r.policy("hours", "\npackage access\n\ndeny contains \"closed\" if input.principal == \"x\"\n")
	same("another policy", none)
	r.policy("hours", "\npackage access\n\ndeny contains\n")
	in := r.input(7)
	in.Cache = cache
	if _, err := release.Build(context.Background(), in); err == nil {
		t.Error("a policy that does not compile was built")
	}
	delete(r.files, "reviews/orders-db/etl-nightly.yaml")
	r.policy("hours", "\npackage access\n")
	same("review gone", none)
}

// seen is a history of the fixture's review.
func seen(s release.Seen) map[string]release.History {
	return map[string]release.History{"orders-db": {"etl-nightly": s}}
}
