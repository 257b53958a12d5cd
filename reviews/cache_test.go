package reviews_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// identified is a file system that names contents the way git does.
type identified struct{ fstest.MapFS }

func (f identified) ID(name string) (string, error) {
	h, found := sha256.New(), false
	for _, path := range slices.Sorted(maps.Keys(f.MapFS)) {
		if path == name || strings.HasPrefix(path, name+"/") {
			fmt.Fprintf(h, "%q %o %q\n", path, f.MapFS[path].Mode, f.MapFS[path].Data)
			found = true
		}
	}
	if !found {
		return "", &fs.PathError{Op: "id", Path: name, Err: fs.ErrNotExist}
	}
	return string(h.Sum(nil)), nil
}

// Whatever happens to a review, its signatures and the trust in its signers:
// loading with a cache that knows what was there before comes to the same,
// and so do names of contents.
func TestCacheNeverShows(t *testing.T) {
	a, cache := newAccess(t), reviews.NewCache()
	path := reviews.PathOf(reviews.KindReview, "orders-db/etl")
	text, signatures := a.read(path), maps.Clone(a.files)
	steps := []struct {
		name string
		do   func()
		open bool // whether the review is granted
	}{
		{"first", func() {}, true},
		{"another's signature beside it", func() {
			a.addSignature(path, "user:dan", a.keys["user:dan"], reviews.NamespaceReview, []byte(text))
		}, true},
		{"a file that is no signature", func() { a.write(path+".sigs/notes.txt", "x") }, true},
		{"only the signature of who may not", func() { a.sign(path, "user:dan") }, false},
		{"signed again", func() { a.sign(path, "user:carol") }, true},
		{"no signature", func() { a.sign(path) }, false},
		{"other bytes under the old signature", func() {
			a.sign(path, "user:bob")
			a.replace(path, "[app.orders, ", "[app.items, app.orders, ")
		}, false},
		{"the old bytes", func() { a.write(path, text) }, true},
		{"executable", func() { a.files[path].Mode = 0o755 }, false},
		{"plain", func() { a.files[path].Mode = 0o644 }, true},
		{"the signer's key revoked", func() {
			a.sign(path, "user:carol")
			a.root("  revoked: [{fingerprint: \"" + ssh.FingerprintSHA256(a.keys["user:carol"].PublicKey()) + "\", reason: lost}]\n")
		}, false},
		{"the start", func() { a.files = signatures }, true},
		{"gone", func() { delete(a.files, path) }, false},
	}
	for _, step := range steps {
		step.do()
		want, wantErr := reviews.Load(a.files, reviews.LoadOptions{Now: noon})
		for range 2 { // the second one finds everything in the cache
			got, err := reviews.Load(identified{a.files}, reviews.LoadOptions{Now: noon, Cache: cache})
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: with a cache %v, problems:\n%v\nnotes:\n%v\nwithout %v, problems:\n%v\nnotes:\n%v",
					step.name, err, got.Problems, got.Notes, wantErr, want.Problems, want.Notes)
			}
			if open := got.Reviews["orders-db/etl"] != nil; wantErr == nil && open != step.open {
				t.Errorf("%s: granted %v, want %v: %v", step.name, open, step.open, got.Problems)
			}
		}
	}
}

// What one Load judged stands for the next one only while nothing changed that
// the judgement stands on. Every change here closes the review, and a Load that knows
// the judgement before has to find that as well.
func TestJudgementStandsOnlyWhileNothingChanged(t *testing.T) {
	const name = "orders-db/etl"
	path := reviews.PathOf(reviews.KindReview, name)
	revoke := func(a *access, who string) {
		a.root("  revoked: [{fingerprint: \"" + ssh.FingerprintSHA256(a.keys[who].PublicKey()) + "\", reason: lost}]\n")
	}
	type options = reviews.LoadOptions
	const everybody = "    - {match: {}, mode: signature, threshold: 1, groups: [dba]}\n"
	resign := func(a *access, who ...string) {
		for _, p := range []string{"connections/orders-db.yaml", "principals/agent_etl.yaml", "policies/freeze.rego"} {
			a.sign(p, who...)
		}
	}
	attested := func(a *access) { a.forge(forgeRule); a.attest(a.approved(), "attester") }
	automatic := func(a *access) {
		a.forge("    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [dba]}\n")
		a.sign(path)
	}
	attestation := func(a *access) string { return reviews.AttestationPath(digestOf(a.read(path))) }
	attacks := map[string]struct {
		before func(*access)
		attack func(*access, *options)
	}{
		"key revoked": {func(a *access) { a.sign(path, "user:carol") }, func(a *access, _ *options) { revoke(a, "user:carol") }},
		"first seen before its key was valid": {func(a *access) {
			a.sign(path, "user:carol")
			a.replace(reviews.RootPath, a.key("user:carol")+`"`, a.key("user:carol")+`", notBefore: "2026-01-01T00:00:00Z"`)
			a.sign(reviews.RootPath, "user:alice", "user:bob")
		}, func(_ *access, o *options) { o.Seen = func(string) time.Time { return noon.AddDate(-20, 0, 0) } }},
		"stricter rule": {func(a *access) { a.forge(everybody); a.sign(path, "user:bob") }, func(a *access, _ *options) {
			a.forge(strings.Replace(everybody, "threshold: 1", "threshold: 2", 1))
			resign(a, "user:bob", "user:carol")
			a.sign(path, "user:bob")
		}},
		"shorter lifetime": {nil, func(a *access, _ *options) { a.config("  maxReviewLifetime: 24h\n") }},
		"tombstone": {nil, func(a *access, _ *options) {
			a.root("  tombstones: [{sha256: " + digestOf(a.read(path)) + ", reason: incident}]\n")
		}},
		"subject gone":         {nil, func(a *access, _ *options) { delete(a.files, "principals/agent_etl.yaml") }},
		"subject not approved": {nil, func(a *access, _ *options) { a.sign("principals/agent_etl.yaml", "user:dan") }},
		"signer now owns it": {nil, func(a *access, _ *options) {
			a.sign(a.principal("agent:etl", "user:bob", "agent:etl"), "user:carol")
		}},
		"connection gone": {nil, func(a *access, _ *options) { delete(a.files, "connections/orders-db.yaml") }},
		"connection masks it itself": {func(a *access) { a.review(name, "  mask: [{column: app.orders.note, with: redact}]\n") }, func(a *access, _ *options) {
			a.replace("connections/orders-db.yaml", "mask: [", "mask: [{column: app.orders.note, with: redact}, ")
			a.sign("connections/orders-db.yaml", "user:bob")
		}},
		"higher risk before": {func(a *access) {
			a.forge(everybody + "    - {match: {kinds: [AccessReview], risks: [high]}, mode: signature, threshold: 2, groups: [dba]}\n")
			a.sign(path, "user:bob")
		}, func(_ *access, o *options) { o.RiskBefore = func(string) string { return "high" } }},
		"nobody approves by itself": {automatic, func(_ *access, o *options) { o.AutoApprove = nil }},
		"other policies": {automatic, func(a *access, o *options) {
			a.policy("freeze.rego", "package access\n# other\n")
			o.AutoApprove = func(*reviews.Review, *reviews.Connection) string { return "" }
		}},
		"the parent's policies": {automatic, func(_ *access, o *options) {
			o.AutoApprove = func(*reviews.Review, *reviews.Connection) string { return "" }
		}},
		"attestation gone":    {attested, func(a *access, _ *options) { delete(a.files, attestation(a)) }},
		"attestation of less": {attested, func(a *access, _ *options) { s := a.approved(); s.Approvals = nil; a.attest(s, "attester") }},
		"signer contributed": {func(a *access) { a.forge(forgeRule); a.sign(path, "user:bob") }, func(a *access, _ *options) {
			s := a.approved()
			s.Contributors = []int64{2}
			a.attest(s, "attester")
		}},
		"other bytes":           {nil, func(a *access, _ *options) { a.replace(path, "nightly", "daily") }},
		"another's signature":   {nil, func(a *access, _ *options) { a.sign(path, "user:dan") }},
		"no signature":          {nil, func(a *access, _ *options) { a.sign(path) }},
		"executable":            {nil, func(a *access, _ *options) { a.files[path].Mode = 0o755 }},
		"a name but for case":   {nil, func(a *access, _ *options) { a.write("reviews/orders-db/ETL.yaml", a.read(path)) }},
		"a folder but for case": {nil, func(a *access, _ *options) { a.write("reviews/Orders-db/x.yaml", "") }},
	}
	// The parent release answers for these, and is no part of what a judgement can be told by.
	anew := map[string]bool{"nobody approves by itself": true, "other policies": true, "the parent's policies": true}
	for what, tt := range attacks {
		t.Run(what+", lean", func(t *testing.T) {
			a, cache := newAccess(t), reviews.NewCache()
			if tt.before != nil {
				tt.before(a)
			}
			o := options{Now: noon, Seen: func(string) time.Time { return noon.AddDate(0, 0, -7) }, AutoApprove: func(*reviews.Review, *reviews.Connection) string { return "small" }}
			load := func(lean bool) (tree *reviews.Tree, judged int) {
				with := o
				if lean {
					with.Cache = cache
					with.Judged = func(_ *reviews.Connection, f *reviews.Folder) {
						if list, err := f.Reviews(); err != nil || len(list) == 0 {
							t.Errorf("judged %v: %v", list, err)
						}
						judged++
					}
				}
				tree, err := reviews.Load(identified{a.files}, with)
				if err != nil {
					t.Fatal(err)
				}
				return fat(t, tree), judged
			}
			_, one := load(true)
			second, two := load(true)
			if second.Reviews[name] == nil || !anew[what] && (one != 1 || two != 0) {
				t.Fatalf("judged %d and then %d times though nothing changed, or the review is closed: %v %v", one, two, second.Problems, second.Pending)
			}
			if want, _ := load(false); !reflect.DeepEqual(second, want) {
				t.Errorf("lean %+v\nand not %+v", second, want)
			}
			tt.attack(a, &o)
			got, _ := load(true)
			if want, _ := load(false); got.Reviews[name] != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("granted %v, problems %v, pending %v; without a cache problems %v, pending %v", got.Reviews[name] != nil, got.Problems, got.Pending, want.Problems, want.Pending)
			}
		})
		t.Run(what, func(t *testing.T) {
			a, cache := newAccess(t), reviews.NewCache()
			if tt.before != nil {
				tt.before(a)
			}
			o := options{Now: noon, Seen: func(string) time.Time { return noon.AddDate(0, 0, -7) }, AutoApprove: func(*reviews.Review, *reviews.Connection) string { return "small" }}
			load := func(c *reviews.Cache) *reviews.Tree {
				with := o
				with.Cache = c
				tree, err := reviews.Load(identified{a.files}, with)
				if err != nil {
					t.Fatal(err)
				}
				return tree
			}
			first, second := load(cache), load(cache)
			if r := second.Reviews[name]; r == nil || r != first.Reviews[name] && !anew[what] {
				t.Fatalf("the judgement did not stand though nothing changed, or the review is closed: %v %v", second.Problems, second.Pending)
			}
			tt.attack(a, &o)
			got, want := load(cache), load(nil)
			if got.Reviews[name] != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("with a cache granted %v, problems %v, pending %v; without problems %v, pending %v",
					got.Reviews[name] != nil, got.Problems, got.Pending, want.Problems, want.Pending)
			}
		})
	}
}

// fat is a tree that was loaded lean as it would be otherwise.
func fat(t *testing.T, tree *reviews.Tree) *reviews.Tree {
	t.Helper()
	for _, f := range tree.Folders {
		list, err := f.Reviews()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			tree.Reviews[r.Metadata.Name] = r
		}
	}
	tree.Folders = nil
	return tree
}
