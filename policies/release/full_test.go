package release_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// edit changes a document and has user:bob approve it anew; the trust root's new digest is pinned.
func (r *repo) edit(path string, kind reviews.Kind, old, new string) {
	r.t.Helper()
	text := string(r.files[path].Data)
	if !strings.Contains(text, old) {
		r.t.Fatalf("%s does not say %q", path, old)
	}
	r.write(path, kind, strings.Replace(text, old, new, 1))
	if kind == reviews.KindRoot {
		r.root = r.load().Root.Source.SHA256
	}
}

// newFullRepo lists its policy in the config, so that nobody can drop it silently.
func newFullRepo(t testing.TB) *repo {
	r := newRepo(t)
	r.edit(reviews.ConfigPath, reviews.KindConfig, "  freshness:", "  policies: [hours.rego]\n  freshness:")
	return r
}

// publishInput publishes what a sync makes that holds the real release key,
// and may have made the input up.
func (r *repo) publishInput(in release.BuildInput) string {
	r.t.Helper()
	built, err := release.Build(context.Background(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	dir := r.t.TempDir()
	if err := release.Publish(dir, built, r.keys["release"]); err != nil {
		r.t.Fatal(err)
	}
	return dir
}

func (r *repo) openFully(dir string, before *release.Release) (*release.Release, error) {
	return release.Opener{Dir: dir, Trust: r.trust(), Full: true}.Open(context.Background(), before, now)
}

// forge loads the files whatever lacks approvals, as a compromised sync may.
func (r *repo) forged() *reviews.Tree {
	r.t.Helper()
	tree, err := reviews.Load(r.files, reviews.LoadOptions{Now: now, Approvals: reviews.ReportApprovals})
	if err != nil {
		r.t.Fatal(err)
	}
	return tree
}

// unsign takes all signatures of a document away.
func (r *repo) unsign(path string) {
	for name := range r.files {
		if strings.HasPrefix(name, path+".sigs/") {
			delete(r.files, name)
		}
	}
}

const nightly = "reviews/orders-db/etl-nightly.yaml"

func TestFullVerificationTakesWhatIsApproved(t *testing.T) {
	r := newFullRepo(t)
	r.connection("billing-db")
	r.review("billing-db/etl", 1, "app.bills")
	opened, err := r.openFully(r.publish(7), nil)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Connections["billing-db"].Review("billing-db/etl") == nil {
		t.Error("the review is missing")
	}
}

// How long a release may be used is in the signed settings, so the release key cannot say more: neither in the first
// release nor in a later one whose bundles are known already. Less is up to it.
func TestReleaseKeyDoesNotChooseValidity(t *testing.T) {
	r := newFullRepo(t)
	before, err := r.openFully(r.publish(7), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		until time.Duration
		holds bool
	}{
		"ten years":     {10 * 365 * 24 * time.Hour, false},
		"a second more": {24*time.Hour + time.Second, false},
		"as signed":     {24 * time.Hour, true},
		"less":          {time.Hour, true},
	} {
		in := r.input(8)
		in.ValidFor = c.until
		dir := r.publishInput(in)
		for _, last := range []*release.Release{nil, before} {
			if _, err := r.openFully(dir, last); (err == nil) != c.holds || err != nil && (!errors.Is(err, release.ErrUnverified) || !strings.Contains(err.Error(), "spec.freshness.validFor")) {
				t.Errorf("%s, after %v: %v", name, last != nil, err)
			}
		}
	}
	in := r.input(9)
	in.History = map[string]release.History{"orders-db": {"etl-nightly": {Sequence: 4, Commit: "c", At: now.AddDate(4, 0, 0)}}}
	if _, err := r.openFully(r.publishInput(in), nil); err == nil || !strings.Contains(err.Error(), "after the release was made") {
		t.Errorf("approved in the future: %v", err)
	}
}

// The release key alone, in the hands of whoever took sync over, grants nothing.
// Each of these opens without full verification.
func TestCompromisedSync(t *testing.T) {
	tests := map[string]struct {
		make func(r *repo) release.BuildInput
		want string
	}{
		"unsigned review added": {func(r *repo) release.BuildInput {
			r.review("orders-db/intruder", 1, "app.secrets")
			r.unsign("reviews/orders-db/intruder.yaml")
			in := r.input(7, r.forged())
			return in
		}, "reviews/orders-db/intruder.yaml: not approved"},
		"signed by the requester": {func(r *repo) release.BuildInput {
			r.unsign(nightly)
			r.signAs("user:alice", nightly, reviews.KindReview)
			return r.input(7, r.forged())
		}, "user:alice may not approve this: it is the requester"},
		"approvers invented": {func(r *repo) release.BuildInput {
			in := r.input(7)
			in.Tree.Reviews["orders-db/etl-nightly"].Source.Approvals = []string{"user:bob", "user:carol"}
			return in
		}, `was approved by ["user:bob"], and the release says by ["user:bob" "user:carol"]`},
		"review widened": {func(r *repo) release.BuildInput {
			r.tamper(nightly, "verbs: [select]", "verbs: [delete]")
			return r.input(7, r.forged())
		}, "reviews/orders-db/etl-nightly.yaml: not approved"},
		"mask dropped from a connection": {func(r *repo) release.BuildInput {
			r.tamper("connections/orders-db.yaml", "app.customers.ssn", "app.customers.nothing")
			return r.input(7, r.forged())
		}, "connections/orders-db.yaml: not approved"},
		"policy edited": {func(r *repo) release.BuildInput {
			r.tamper("policies/hours.rego", `== "delete"`, `== "never"`)
			return r.input(7, r.forged())
		}, "policies/hours.rego: not approved"},
		"policy removed": {func(r *repo) release.BuildInput {
			in := r.input(7)
			delete(in.Tree.Policies, "policies/hours.rego")
			return in
		}, "policies/hours.rego is missing"},
		"approval rules weakened": {func(r *repo) release.BuildInput {
			r.tamper(reviews.ConfigPath, "threshold: 1", "threshold: 1, oneOf: []")
			return r.input(7, r.forged())
		}, "sallyport.yaml: not approved"},
		"principal with a key of the intruder": {func(r *repo) release.BuildInput {
			r.tamper("principals/agent_etl.yaml", line(r.keys["agent:etl"]), line(signerFor(r.t, "intruder")))
			return r.input(7, r.forged())
		}, "principals/agent_etl.yaml: not approved"},
		"another principal's keys for somebody of the trust root": {func(r *repo) release.BuildInput {
			in := r.input(7)
			text := header("Principal", "user:bob") + "\nspec:\n  owner: user:alice\n  keys: [{key: \"" + line(signerFor(r.t, "intruder")) + "\"}]\n"
			p, err := reviews.ParsePrincipal("principals/user_bob.yaml", []byte(text))
			if err != nil {
				r.t.Fatal(err)
			}
			in.Tree.Principals["user:bob"] = p
			return in
		}, "principals/user_bob.yaml"},
		"tombstoned review": {func(r *repo) release.BuildInput {
			in := r.input(7)
			sum := in.Tree.Reviews["orders-db/etl-nightly"].Source.SHA256
			r.writeRoot("  tombstones: [{sha256: " + sum + ", reason: incident-42}]\n")
			tree, err := reviews.Load(r.files, reviews.LoadOptions{Now: now})
			if err != nil || tree.Reviews["orders-db/etl-nightly"] != nil {
				r.t.Fatal("the tombstone does not close it", err)
			}
			tree.Reviews["orders-db/etl-nightly"] = in.Tree.Reviews["orders-db/etl-nightly"]
			in.Tree = tree
			return in
		}, "incident-42"},
		"approval of a revoked key": {func(r *repo) release.BuildInput {
			in := r.input(7)
			r.revoke("user:bob", "")
			return r.under(in)
		}, "not approved"},
		"approval that came after the revocation": {func(r *repo) release.BuildInput {
			in := r.input(7)
			r.revoke("user:bob", `, mode: after, at: "2026-11-24T10:00:00Z"`)
			in = r.under(in)
			in.Seen = func(string) time.Time { return now.Add(-time.Hour) } // 11:00
			return in
		}, "not approved"},
		"first seen in the future": {func(r *repo) release.BuildInput {
			in := r.input(7)
			in.Seen = func(string) time.Time { return now.Add(time.Hour) }
			return in
		}, "after the release was made"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newFullRepo(t)
			good, err := r.openFully(r.publish(6), nil)
			if err != nil {
				t.Fatal(err)
			}
			dir := r.publishInput(tt.make(r))
			if _, err := r.open(dir); err != nil {
				t.Fatalf("without full verification it has to open, or this shows nothing: %v", err)
			}
			for _, before := range []*release.Release{nil, good} {
				_, err := r.openFully(dir, before)
				wantError(t, err, "full verification", tt.want)
				if !errors.Is(err, release.ErrUnverified) {
					t.Errorf("%v is not ErrUnverified", err)
				}
			}
		})
	}
}

func (r *repo) signAs(who, path string, kind reviews.Kind) {
	armored, err := reviews.Sign(r.keys[who], reviews.NamespaceFor(kind), r.files[path].Data)
	if err != nil {
		r.t.Fatal(err)
	}
	r.files[reviews.SidecarPath(path, who, r.keys[who].PublicKey())] = &fstest.MapFile{Data: armored}
}

// tamper edits a document and leaves its signatures as they are.
func (r *repo) tamper(path, old, new string) {
	changed := bytes.Replace(r.files[path].Data, []byte(old), []byte(new), 1)
	if bytes.Equal(changed, r.files[path].Data) {
		r.t.Fatalf("%s does not say %q", path, old)
	}
	r.files[path] = &fstest.MapFile{Data: changed}
}

// revoke has user:carol take over from somebody whose key is stolen.
func (r *repo) revoke(who, when string) {
	r.keys["user:carol"] = signerFor(r.t, "user:carol")
	r.writeRoot(fmt.Sprintf("    - {fingerprint: %q, reason: stolen%s}\n", ssh.FingerprintSHA256(r.keys[who].PublicKey()), when))
	for _, change := range [][2]string{
		{"groups: {root: [\"user:bob\"]", "groups: {root: [\"user:carol\"]"},
		{"  groups:", "    - {name: \"user:carol\", keys: [{key: \"" + line(r.keys["user:carol"]) + "\"}]}\n  groups:"},
		{"reviewers: [\"user:bob\"]", "reviewers: [\"user:bob\", \"user:carol\"]"},
	} {
		r.tamper(reviews.RootPath, change[0], change[1])
	}
	r.root = digestOf(r.files[reviews.RootPath].Data)
	for path := range r.files {
		kind := reviews.KindOf(path)
		if kind != "" && kind != reviews.KindReview {
			r.unsign(path)
			r.signAs("user:carol", path, kind)
		}
	}
}

// under is the input under the trust root as it is now, with the reviews as they were.
func (r *repo) under(in release.BuildInput) release.BuildInput {
	r.t.Helper()
	tree, err := reviews.Load(r.files, reviews.LoadOptions{Now: now})
	if err != nil {
		r.t.Fatal(err)
	}
	tree.Reviews = in.Tree.Reviews
	in.Tree = tree
	return in
}

// What full verification cannot know: when a signature was first seen is sync's
// word. docs/threat-model.md says so.
func TestInventedSightingsAreNotCaught(t *testing.T) {
	r := newFullRepo(t)
	in := r.input(7)
	r.revoke("user:bob", `, mode: after, at: "2026-11-24T10:00:00Z"`)
	in = r.under(in)
	in.Seen = func(string) time.Time { return now.AddDate(0, 0, -1) }
	if _, err := r.openFully(r.publishInput(in), nil); err != nil {
		t.Errorf("an earlier sighting is believed: %v", err)
	}
}

// A key that has expired since still stands for what was seen while it was valid.
func TestSightingsTravelWithTheRelease(t *testing.T) {
	r := newFullRepo(t)
	r.edit(reviews.RootPath, reviews.KindRoot, `{name: "user:bob", keys: [{key: "`+line(r.keys["user:bob"])+`"`, `{name: "user:bob", keys: [{key: "`+line(r.keys["user:bob"])+`", notAfter: "2026-11-24T12:30:00Z"`)
	later := now.Add(time.Hour)
	seen := func(string) time.Time { return now }
	tree, err := reviews.Load(r.files, reviews.LoadOptions{Now: later, Seen: seen})
	if err != nil || len(tree.Problems) > 0 {
		t.Fatal(err, tree.Problems)
	}
	in := r.input(7, tree)
	in.Now = later
	open := func(in release.BuildInput) error {
		_, err := release.Opener{Dir: r.publishInput(in), Trust: r.trust(), Full: true}.Open(context.Background(), nil, later)
		return err
	}
	wantError(t, open(in), "expired")
	in.Seen = seen
	if err := open(in); err != nil {
		t.Error(err)
	}
}

// A release key alone makes nobody believe a catalog that a rule is for.
func TestFullVerificationOfCatalogs(t *testing.T) {
	r := newFullRepo(t)
	at := reviews.CatalogPath("orders-db")
	config := string(r.files[reviews.ConfigPath].Data)
	r.write(reviews.ConfigPath, reviews.KindConfig, strings.Replace(config, "Connection, ", "Connection, Catalog, ", 1))
	r.write(at, reviews.KindCatalog, string(reviews.BindCatalog(repoID, "orders-db", []byte("{\n \"format\": 1\n}\n"))))
	before, err := r.openFully(r.publish(6), nil)
	if err != nil {
		t.Fatal(err)
	}
	if before.Connections["orders-db"].Catalog == nil {
		t.Fatal("the release lacks the catalog")
	}
	built := r.build(7)
	name, data := release.ConnectionBundle("orders-db"), "sallyport/connections/orders-db/data.json"
	doctored := reviews.BindCatalog(repoID, "orders-db", []byte("{\n \"format\": 2\n}\n"))
	_, err = r.openFully(r.rewrite(built, name, data, ordersRoots,
		swap(base64.StdEncoding.EncodeToString(r.files[at].Data), base64.StdEncoding.EncodeToString(doctored))), before)
	wantError(t, err, "connections/orders-db.catalog.json", "the signature is not over these bytes")
}

// Without a rule for it a catalog is not signed, and nothing is decided by it here.
func TestCatalogsDecideNothing(t *testing.T) {
	r := newFullRepo(t)
	before, err := r.openFully(r.publish(6), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.files["connections/orders-db.catalog.json"] = &fstest.MapFile{Data: []byte(`{"relations":[]}`)}
	after, err := r.openFully(r.publish(7), before)
	if err != nil {
		t.Fatal(err)
	}
	was, is := before.Connections["orders-db"], after.Connections["orders-db"]
	if was.Digest != is.Digest || was.Review("orders-db/etl-nightly") != is.Review("orders-db/etl-nightly") {
		t.Error("a catalog changed what is granted")
	}
	built := r.build(8)
	name, data := release.ConnectionBundle("orders-db"), "sallyport/connections/orders-db/data.json"
	_, err = r.openFully(r.rewrite(built, name, data, ordersRoots, swap(`"connections/orders-db.catalog.json"`, `"connections/orders-cb.catalog.json"`)), nil)
	wantError(t, err, "has no entry in this bundle")
}

// A review under another path, a document where it does not belong, a root that does not follow.
func TestDocumentsOutOfPlace(t *testing.T) {
	r := newFullRepo(t)
	built := r.build(7)
	name, data := release.ConnectionBundle("orders-db"), "sallyport/connections/orders-db/data.json"
	_, err := r.openFully(r.rewrite(built, name, data, ordersRoots, func(s string) string {
		return strings.ReplaceAll(s, "orders-db/etl-nightly", "orders-db/etl-noon")
	}), nil)
	wantError(t, err, "reviews/orders-db/etl-noon.yaml")

	trust, roots := "sallyport/trust/data.json", release.PolicyRoots()
	_, err = r.openFully(r.rewrite(built, release.PolicyBundle, trust, roots, swap(`"documents":{`, `"documents":{"connections/evil.yaml":"Cg==",`)), nil)
	wantError(t, err, "connections/evil.yaml does not belong")
	_, err = r.openFully(r.rewrite(built, release.PolicyBundle, trust, roots, swap(`"documents":{`, `"documents":{"approvals/x.json":"Cg==",`)), nil)
	wantError(t, err, "approvals/x.json does not belong")

	next := newFullRepo(t)
	next.edit(reviews.RootPath, reviews.KindRoot, "version: 1", "version: 2")
	next.unsign(reviews.RootPath)
	next.signAs("user:alice", reviews.RootPath, reviews.KindRoot)
	source := r.load().Root.Source
	tree := r.load()
	root, err := reviews.ParseRoot(reviews.RootPath, next.files[reviews.RootPath].Data)
	if err != nil {
		t.Fatal(err)
	}
	root.Source.Signatures = map[string][]byte{}
	in := r.input(8, tree)
	in.Tree.Root, in.RootsBefore = root, []release.RootSeen{{Source: source, At: now}}
	_, err = r.openFully(r.publishInput(in), nil)
	wantError(t, err, "under the trust root before it")
}

// Approvals of pull requests travel with the release, and are verified.
func TestAttestationsTravelWithTheRelease(t *testing.T) {
	newForge := func() *repo {
		r := newFullRepo(t)
		r.keys["attester"] = signerFor(t, "attester")
		r.tamper(reviews.RootPath, `{name: "user:bob", keys:`, `{name: "user:bob", forge: {gitea: 2}, keys:`)
		r.edit(reviews.RootPath, reviews.KindRoot, "  gateways:", "  attesters: [{key: \""+line(r.keys["attester"])+"\"}]\n  gateways:")
		r.edit(reviews.ConfigPath, reviews.KindConfig, "  approvals:", "  forge: {kind: gitea, url: https://git.example, repository: acme/access}\n  approvals:\n    - {match: {kinds: [AccessReview]}, mode: forge, threshold: 1, groups: [reviewers]}")
		r.edit(reviews.ConfigPath, reviews.KindConfig, "AccessReview, Policy]}", "Policy]}")
		r.unsign(nightly)
		return r
	}
	attest := func(r *repo, key string, approver int64) {
		sum := digestOf(r.files[nightly].Data)
		b, err := reviews.Attest(reviews.ForgeApproval{
			Repo: repoID, Forge: "gitea", Repository: "acme/access", PullRequest: 7, Base: "main", Head: strings.Repeat("a", 40),
			Contributors: []int64{1}, Approvals: []reviews.AccountApproval{{ID: approver, Commit: strings.Repeat("a", 40), At: now}}, AttestedAt: now,
		}, []reviews.Content{{Name: nightly, Digest: reviews.ContentDigest{SHA256: sum}}}, r.keys[key])
		if err != nil {
			t.Fatal(err)
		}
		r.files[reviews.AttestationPath(sum)] = &fstest.MapFile{Data: b}
	}
	r := newForge()
	attest(r, "attester", 2)
	opened, err := r.openFully(r.publish(7), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := opened.Connections["orders-db"].Review("orders-db/etl-nightly").Approvers; len(got) != 1 || got[0] != "user:bob" {
		t.Errorf("approvers %q", got)
	}

	for name, tt := range map[string]struct {
		forge func(r *repo)
		want  string
	}{
		"none":                           {func(*repo) {}, "attestation of its pull request is missing"},
		"attested with the release key":  {func(r *repo) { attest(r, "release", 2) }, "is not an attester"},
		"of somebody who may not":        {func(r *repo) { attest(r, "attester", 1) }, "not approved"},
		"edited after it was signed":     {func(r *repo) { attest(r, "attester", 2); r.tamper(nightly, "[select]", "[delete]") }, "is missing"},
		"moved to another review's name": {func(r *repo) { attest(r, "attester", 2); r.move() }, "about other contents"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newForge()
			tt.forge(r)
			in := r.input(8, r.forged())
			review := in.Tree.Reviews["orders-db/etl-nightly"]
			review.Source.Approvals = []string{"user:bob"}
			if f := r.files[reviews.AttestationPath(review.Source.SHA256)]; f != nil {
				review.Source.Attestation = f.Data
			}
			_, err := r.openFully(r.publishInput(in), opened)
			wantError(t, err, "full verification", tt.want)
		})
	}
}

// move changes the review and lets its attestation follow.
func (r *repo) move() {
	old := reviews.AttestationPath(digestOf(r.files[nightly].Data))
	r.tamper(nightly, "[select]", "[delete]")
	r.files[reviews.AttestationPath(digestOf(r.files[nightly].Data))] = r.files[old]
}

// An automatic approval counts because this gateway found the rule true itself.
func TestAutomaticApprovalsAreEvaluatedAgain(t *testing.T) {
	newAuto := func(condition string) (*repo, release.BuildInput) {
		r := newFullRepo(t)
		r.policy("hours", "\npackage access\n\nauto_approve contains \"select only\" if {\n\t"+condition+"\n}\n")
		r.edit(reviews.ConfigPath, reviews.KindConfig, "AccessReview, Policy]}", "Policy]}")
		r.edit(reviews.ConfigPath, reviews.KindConfig, "  approvals:", "  approvals:\n    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [reviewers]}")
		r.unsign(nightly)
		tree, err := reviews.Load(r.files, reviews.LoadOptions{Now: now, AutoApprove: func(*reviews.Review, *reviews.Connection) string { return "yes" }})
		if err != nil || len(tree.Problems) > 0 {
			t.Fatal(err, tree.Problems)
		}
		return r, r.input(7, tree)
	}
	r, in := newAuto(`input.review.spec.connection == "orders-db"`)
	opened, err := r.openFully(r.publishInput(in), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := opened.Connections["orders-db"].Review("orders-db/etl-nightly").Approvers; len(got) != 1 || got[0] != reviews.AutoApproval {
		t.Errorf("approvers %q", got)
	}
	r, in = newAuto(`input.review.spec.connection == "another-db"`)
	_, err = r.openFully(r.publishInput(in), nil)
	wantError(t, err, "full verification", "not approved")
}

// What was verified before under the same trust, config and policies is not
// verified again, and everything else is.
func TestFullVerificationFollowsChanges(t *testing.T) {
	r := newFullRepo(t)
	r.edit(reviews.RootPath, reviews.KindRoot, "groups: {", "groups: {nobody: [\"user:alice\"], ")
	r.connection("billing-db")
	r.review("billing-db/etl", 1, "app.bills")
	first, err := r.openFully(r.publish(6), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.review("orders-db/other", 1, "app.parts")
	second, err := r.openFully(r.publish(7), first)
	if err != nil {
		t.Fatal(err)
	}
	// A signature that is taken away from an unchanged review.
	r.unsign("reviews/billing-db/etl.yaml")
	_, err = r.openFully(r.publishInput(r.input(8, r.forgedAs("billing-db/etl"))), second)
	wantError(t, err, "reviews/billing-db/etl.yaml: not approved")
	r.review("billing-db/etl", 1, "app.bills")

	// New approval rules apply to what has not changed.
	r.tamper(reviews.ConfigPath, "  approvals:", "  approvals:\n    - {match: {kinds: [AccessReview]}, mode: signature, threshold: 1, groups: [nobody]}")
	r.signAs("user:bob", reviews.ConfigPath, reviews.KindConfig)
	_, err = r.openFully(r.publishInput(r.input(9, r.forgedAs("billing-db/etl", "orders-db/etl-nightly", "orders-db/other"))), second)
	wantError(t, err, "not approved")
}

// forgedAs is forged, with approvers that nobody can object to by their names.
func (r *repo) forgedAs(names ...string) *reviews.Tree {
	tree := r.forged()
	for _, name := range names {
		tree.Reviews[name].Source.Approvals = []string{"user:bob"}
	}
	return tree
}
