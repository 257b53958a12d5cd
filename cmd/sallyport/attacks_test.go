package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/util"
	"golang.org/x/crypto/ssh"
	"gopkg.in/yaml.v3"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/policies/syncer"
	"github.com/sallyport-dev/sallyport/reviews"
)

// attacks are the ways into the first gate that docs/threat-model.md promises are shut, each played in full.
var attacks = map[string]func(t *testing.T){
	"self-approval":             selfApproval,
	"push-after-approval":       pushAfterApproval,
	"replayed-review":           replayedReview,
	"rollback":                  rollback,
	"freeze":                    freeze,
	"parser-differential":       parserDifferential,
	"compromised-key":           compromisedKey,
	"trust-swap":                trustSwap,
	"weakened-policy":           weakenedPolicy,
	"signature-context":         signatureContext,
	"ci-bypass-and-stale-merge": bypassAndStaleMerge,
	"unsigned-or-delta-bundle":  unsignedOrDelta,
	"compromised-sync":          compromisedSync,
	"audit-tampering":           auditTampering,
	"bombs":                     bombs,
}

func TestAttackTable(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(attacks)) {
		t.Run(name, attacks[name])
	}
}

// The threat model lists each attack by the name of its test, and no other.
func TestAttackTableIsTheThreatModels(t *testing.T) {
	page, err := os.ReadFile("../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `TestAttackTable/([a-z-]+)` \\| .+ \\|$").FindAllStringSubmatch(string(page), -1) {
		if attacks[m[1]] == nil {
			t.Errorf("docs/threat-model.md names the attack %q, which no test plays", m[1])
		}
		listed[m[1]] = true
	}
	for name := range attacks {
		if !listed[name] {
			t.Errorf("docs/threat-model.md does not tell of the attack %q", name)
		}
	}
	if len(attacks) < 15 {
		t.Errorf("only %d attacks: one was taken out of the table", len(attacks))
	}
}

// Whoever asks does not grant: not with another key, not in another's name, not by approving in the
// forge what they pushed.
func selfApproval(t *testing.T) {
	s := newSiege(t)
	for name, sign := range map[string]func(path string){
		"own key":               func(path string) { s.sign(path, reviews.NamespaceReview, "user:alice") },
		"second key":            func(path string) { s.signFor(path, reviews.NamespaceReview, "alice's laptop", "user:alice") },
		"in bob's name":         func(path string) { s.signFor(path, reviews.NamespaceReview, "user:alice", "user:bob") },
		"the agent itself":      func(path string) { s.sign(path, reviews.NamespaceReview, "agent:etl") },
		"sync's keys":           func(path string) { s.sign(path, reviews.NamespaceReview, "release", "attester", "gw1") },
		"two keys for two eyes": func(path string) { s.sign(path, reviews.NamespaceReview, "user:alice", "alice's laptop") },
	} {
		path := s.review("orders-db/own", 1, "select")
		sign(path)
		s.refused(s.propose("own"), "approval")
		s.merge(name)
		s.says(s.granted("orders-db/etl#1"), path+": not approved")
	}
	// Two of two are two people, not bob and bob's word under carol's name.
	path := s.review("prod-db/own", 1, "select", "user:bob")
	s.signFor(path, reviews.NamespaceReview, "user:bob", "user:carol")
	s.refused(s.propose("one person twice"), "approval")
	s.merge("one person twice")
	s.says(s.granted("orders-db/etl#1"), "needs 2 of reviewers, has 1 (user:bob)")
	s.access.Remove("reviews/orders-db/own.yaml")
	s.access.Remove(path)

	const alice, bob, carol, stranger = 11, 12, 13, 99
	for number, row := range []struct {
		who  string
		play func(p *playedPull)
	}{
		{"its author", func(p *playedPull) { p.approved(alice, p.head) }},
		{"bob, who pushed the last commit", func(p *playedPull) { p.pushers = append(p.pushers, bob); p.approved(bob, p.head) }},
		{"bob, who committed it", func(p *playedPull) { p.committer = bob; p.approved(bob, p.head) }},
		{"an account that is nobody's", func(p *playedPull) { p.approved(stranger, p.head) }},
		{"alice, for a pull request of a bot's", func(p *playedPull) {
			p.author, p.committer, p.pushers = stranger, stranger, []int64{stranger}
			p.approved(alice, p.head)
		}},
	} {
		name := fmt.Sprintf("forge-db/pr%d", number)
		s.pull(number+1, s.review(name, 1, "select"), row.play)
		if r := s.granted("orders-db/etl#1"); !strings.Contains(r.Problems.Error()+fmt.Sprint(r.Pending), name) {
			t.Errorf("%s: nothing is said of %s", row.who, name)
		}
	}
	s.pull(9, s.review("forge-db/good", 1, "select"), func(p *playedPull) { p.approved(carol, p.head) })
	s.granted("forge-db/good#1 orders-db/etl#1")
}

// What was approved is bytes, not a branch.
func pushAfterApproval(t *testing.T) {
	s := newSiege(t)
	path := s.review("orders-db/etl", 2, "select", "user:bob")
	sidecars := fstest.MapFS{}
	for name, f := range s.access.Files {
		if strings.HasPrefix(name, path+".sigs/") {
			sidecars[name] = f
		}
	}
	s.review("orders-db/etl", 2, "select, delete")
	maps.Copy(s.access.Files, sidecars)
	s.refused(s.propose("pushed"), "approval")
	s.merge("pushed")
	s.says(s.granted(""), path+": not approved")
	s.review("orders-db/etl", 2, "select", "user:bob")
	s.merge("what was approved")
	s.says(s.granted(""), "sequence 2 already stands for other bytes") // those that were pushed
	s.review("orders-db/etl", 3, "select", "user:bob")
	s.merge("written anew")
	s.granted("orders-db/etl#3")

	const bob = 12
	name := "forge-db/etl"
	s.pull(1, s.review(name, 1, "select"), func(p *playedPull) {
		p.approved(bob, p.head)
		s.review(name, 1, "delete")
		p.head = s.propose("pr-1")
	})
	r := s.granted("orders-db/etl#3")
	s.says(r, "it approves commit")
	if len(r.Pending) != 1 {
		t.Errorf("pending %v", r.Pending)
	}
	// Reviewed as it is, and merged as something else.
	s.pull(2, s.review(name, 2, "select"), func(p *playedPull) {
		p.approved(bob, p.head)
		s.review(name, 2, "delete")
	})
	s.says(s.granted("orders-db/etl#3"), "what was merged is not what was reviewed there")
	// Pushed to once it was merged, so that the forge shows another head.
	s.pull(3, s.review(name, 3, "delete"), func(p *playedPull) {
		real := p.head
		s.review(name, 3, "select")
		p.approved(bob, s.propose("elsewhere"))
		s.review(name, 3, "delete")
		p.head = real
	})
	s.granted("orders-db/etl#3")
	s.pull(4, s.review(name, 4, "select"), func(p *playedPull) { p.approved(bob, p.head) })
	s.granted("forge-db/etl#4 orders-db/etl#3")
}

// A signed copy is worth nothing at another place, and nothing at its own once a later one was there.
func replayedReview(t *testing.T) {
	s := newSiege(t)
	first := maps.Clone(s.access.Files)
	for _, to := range []string{"reviews/orders-db/copy.yaml", "reviews/prod-db/etl.yaml", "reviews/forge-db/etl.yaml", "reviews/other-db/etl.yaml"} {
		for name, f := range first {
			if rest, ok := strings.CutPrefix(name, siegeReview); ok {
				s.access.Files[to+rest] = f
			}
		}
		s.refused(s.propose("copied"), "document")
		s.merge("copied")
		s.says(s.granted("orders-db/etl#1"), to)
		s.access.Remove(to)
	}
	// Of another repository, where the same people sign.
	s.access.Remove(siegeReview)
	text := strings.Replace(string(first[siegeReview].Data), accesstest.RepoID, "6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b12", 1)
	s.access.Files[siegeReview] = &fstest.MapFile{Data: []byte(text)}
	s.sign(siegeReview, reviews.NamespaceReview, "user:bob", "user:carol")
	s.refused(s.propose("of another repository"), "document")
	s.merge("of another repository")
	s.says(s.granted(""), "belongs to repository")

	s.review("orders-db/etl", 3, "select", "user:bob")
	s.merge("narrowed")
	s.granted("orders-db/etl#3")
	restore := func() {
		s.access.Remove(siegeReview)
		for name, f := range first {
			if strings.HasPrefix(name, siegeReview) {
				s.access.Files[name] = f
			}
		}
	}
	restore()
	s.refused(s.propose("old copy"), "sequence")
	s.merge("old copy")
	s.says(s.granted(""), "sequence 1 is lower than 3")
	s.access.Remove(siegeReview)
	s.merge("deleted")
	s.granted("")
	restore()
	s.refused(s.propose("back from the dead"), "sequence")
	s.merge("back from the dead")
	s.says(s.granted(""), "sequence 1 was used before the review was deleted")
	s.must(s.sync.Close())
	s.must(os.RemoveAll(s.options.StateDir)) // and a sync that starts from nothing knows, too
	s.startSync()
	s.now = s.now.Add(time.Minute)
	r, err := s.sync.Once(t.Context())
	s.must(err)
	s.says(r, "sequence 1 was used before the review was deleted")
	s.review("orders-db/etl", 4, "select", "user:bob")
	s.merge("written anew")
	s.granted("orders-db/etl#4")
	tombstone := fmt.Sprintf("  tombstones: [{sha256: %s, reason: incident}]\n", s.access.Digest("orders-db/etl"))
	s.put(reviews.RootPath, reviews.KindRoot, "root", siegeRoot(2, tombstone), "user:bob", "user:carol")
	s.merge("tombstone")
	s.says(s.granted(""), "closes these contents for good (incident)")
}

// Nothing goes back: not the branch, not the release, not across restarts.
func rollback(t *testing.T) {
	s := newSiege(t)
	before := s.git("rev-parse", "HEAD")
	old := filepath.Join(t.TempDir(), "old")
	s.must(os.CopyFS(old, os.DirFS(s.out)))
	s.access.Remove(siegeReview)
	after := s.merge("revoked")
	s.granted("")

	s.git("reset", "--quiet", "--hard", before)
	for _, story := range []string{"rewound", "after a restart", "rewritten"} {
		switch story {
		case "after a restart":
			s.must(s.sync.Close())
			s.startSync()
		case "rewritten":
			s.git("commit", "--quiet", "--allow-empty", "--message", "another history")
		}
		r, err := s.sync.Once(t.Context())
		if !errors.Is(err, syncer.ErrRollback) || r.Published || len(r.Alarms) == 0 || r.Alarms[0].Kind != syncer.AlarmRollback || !strings.Contains(err.Error(), "sallyport accept-rewind") {
			t.Errorf("%s: %v, alarms %+v", story, err, r.Alarms)
		}
		s.granted("")
	}
	// Unrelated: a repository that somebody put in its place.
	s.git("checkout", "--quiet", "--orphan", "unrelated")
	s.git("commit", "--quiet", "--message", "unrelated")
	s.git("branch", "--force", "main")
	if _, err := s.sync.Once(t.Context()); !errors.Is(err, syncer.ErrRollback) {
		t.Errorf("unrelated history: %v", err)
	}
	s.git("checkout", "--quiet", "-B", "main", after)
	s.granted("")

	// The release of before, with its true signature, under a gateway that has run, and one that was restarted.
	s.must(os.RemoveAll(s.out))
	s.must(os.CopyFS(s.out, os.DirFS(old)))
	if _, err := s.open(false); !errors.Is(err, release.ErrRolledBack) {
		t.Errorf("an old release: %v", err)
	}
	fresh := release.Opener{Dir: s.out, Trust: release.Trust{RootDigest: s.pin}}
	if _, err := fresh.Open(t.Context(), nil, s.now); err != nil {
		t.Errorf("the old release is whole, or this shows nothing: %v", err)
	}
}

// Whoever keeps sync from the branch keeps nothing granted for longer than a release lives.
func freeze(t *testing.T) {
	s := newSiege(t)
	s.must(s.login())
	blocked := s.dir + ".away"
	s.must(os.Rename(s.dir, blocked))
	for range 30 {
		s.now = s.now.Add(time.Hour)
		if r, err := s.sync.Once(t.Context()); err == nil || r.Published {
			t.Fatalf("signed again without having seen the branch: %+v", r)
		}
	}
	var denied *gatewayd.Denied
	if err := s.login(); !errors.As(err, &denied) || denied.Rule != "release_expired" {
		t.Errorf("login after the release ended: %v", err)
	}
	if _, err := s.open(false); !errors.Is(err, release.ErrExpired) {
		t.Errorf("a gateway that starts now: %v", err)
	}
	s.must(os.Rename(blocked, s.dir))
	s.granted("orders-db/etl#1")
	s.must(s.login())
}

// What a person reads in a pull request is what the parser, Rego and the gateway read.
func parserDifferential(t *testing.T) {
	s := newSiege(t)
	text := string(s.access.Files[siegeReview].Data)
	honest := strings.Replace(text, "sequence: 1", "sequence: 2", 1)
	for name, hostile := range map[string]string{
		"duplicate key":           strings.Replace(honest, "  validity:", "  allow: [{verbs: [drop], on: [app.orders]}]\n  validity:", 1),
		"duplicate key, escaped":  strings.Replace(honest, "  validity:", "  \"all\\u006fw\": [{verbs: [drop], on: [app.orders]}]\n  validity:", 1),
		"next line in a comment":  strings.Replace(honest, "  validity:", "  # narrow\u0085  hold: [{verbs: [drop], on: [app.orders]}]\n  validity:", 1),
		"line separator":          strings.Replace(honest, "  validity:", "  # narrow\u2028  hold: [{verbs: [drop], on: [app.orders]}]\n  validity:", 1),
		"carriage return":         strings.Replace(honest, "  validity:", "  # narrow\r  hold: [{verbs: [drop], on: [app.orders]}]\n  validity:", 1),
		"second document":         honest + "---\n" + strings.Replace(honest, "select", "drop", 1),
		"right to left":           strings.Replace(honest, "nightly export", "\u202enightly export", 1),
		"merge key":               strings.Replace(honest, "  allow: [{verbs: [select],", "  allow: [{<<: {verbs: [drop]}, verbs: [select],", 1),
		"alias":                   strings.Replace(strings.Replace(honest, "[select]", "&v [select]", 1), "  validity:", "  hold: [{verbs: *v, on: [app.x]}]\n  validity:", 1),
		"byte order mark":         "\ufeff" + honest,
		"YAML 1.1":                "%YAML 1.1\n---\n" + honest,
		"sequence that is 2 or 3": strings.Replace(honest, "sequence: 2", "sequence: 0b10", 1),
		"tag":                     strings.Replace(honest, "sequence: 2", "sequence: !!int \"2\"", 1),
	} {
		s.access.Remove(siegeReview)
		s.access.Files[siegeReview] = &fstest.MapFile{Data: []byte(hostile)}
		s.sign(siegeReview, reviews.NamespaceReview, "user:bob", "user:carol")
		r := s.check(s.propose("hostile"))
		if r.OK || len(r.Findings) == 0 || r.Findings[0].File != siegeReview || r.Findings[0].Line < 1 || r.Findings[0].Column < 1 {
			t.Errorf("%s: check says %v", name, r.Findings)
		}
		s.merge(name)
		s.says(s.granted(""), siegeReview+":")
	}
	s.access.Remove(siegeReview)
	s.access.Files[siegeReview] = &fstest.MapFile{Data: []byte(honest)}
	s.sign(siegeReview, reviews.NamespaceReview, "user:bob")
	s.merge("honest")
	s.granted("orders-db/etl#2")
	// Three readers read the same in everything that is accepted.
	for path, f := range s.access.Files {
		if !strings.HasSuffix(path, ".yaml") {
			continue
		}
		var ours, theirs any
		if err := yaml.Unmarshal(f.Data, &ours); err != nil {
			t.Errorf("%s: yaml.v3: %v", path, err)
		}
		if err := util.Unmarshal(f.Data, &theirs); err != nil {
			t.Errorf("%s: OPA: %v", path, err)
		}
		a, errA := json.Marshal(ours)
		b, errB := json.Marshal(theirs)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s: yaml.v3 reads\n%s\nand OPA\n%s", path, a, b)
		}
	}
}

// A key that is stolen or has run out approves nothing, whatever date the thief writes.
func compromisedKey(t *testing.T) {
	s := newSiege(t)
	for _, name := range []string{"GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"} {
		t.Setenv(name, "2025-06-01T12:00:00Z") // eve's key was good then
	}
	path := s.review("orders-db/eves", 1, "select", "user:eve")
	s.refused(s.propose("expired"), "approval")
	s.merge("expired, in a commit of 2025")
	s.says(s.granted("orders-db/etl#1"), path+": not approved")
	s.access.Remove(path)
	s.review("orders-db/carols", 1, "select", "user:carol")
	s.merge("carol's")
	s.granted("orders-db/carols#1 orders-db/etl#1")

	stolen := fmt.Sprintf("  revoked: [{fingerprint: %q, reason: stolen}]\n", fingerprintOf("user:bob"))
	s.put(reviews.RootPath, reviews.KindRoot, "root", siegeRoot(2, stolen), "user:carol", "user:dan")
	for _, doc := range []struct {
		path      string
		namespace string
	}{
		{reviews.ConfigPath, reviews.NamespaceConfig}, {siegePolicy, reviews.NamespacePolicy},
		{"connections/orders-db.yaml", reviews.NamespaceConnection}, {"connections/prod-db.yaml", reviews.NamespaceConnection}, {"connections/forge-db.yaml", reviews.NamespaceConnection},
		{"principals/agent_etl.yaml", reviews.NamespacePrincipal}, {"principals/agent_report.yaml", reviews.NamespacePrincipal},
	} {
		s.sign(doc.path, doc.namespace, "user:carol")
	}
	s.merge("bob's key is stolen")
	s.says(s.granted("orders-db/carols#1"), "the key is revoked (stolen)")
	s.review("orders-db/more", 1, "select", "user:bob")
	s.refused(s.propose("by the thief"), "approval")
	s.merge("by the thief, in a commit of 2025")
	s.says(s.granted("orders-db/carols#1"), "reviews/orders-db/more.yaml: not approved")
}

func fingerprintOf(name string) string {
	return ssh.FingerprintSHA256(accesstest.Signer(name).PublicKey())
}

// Nobody is judged by a root that comes along, and no root comes from nowhere.
func trustSwap(t *testing.T) {
	s := newSiege(t)
	good := s.access.Files[reviews.RootPath].Data
	swapped := strings.NewReplacer("threshold: 2", "threshold: 1", `reviewers: ["user:bob"`, `reviewers: ["user:alice", "user:bob"`, `root: ["user:bob"`, `root: ["user:alice", "user:bob"`).Replace(siegeRoot(2, ""))
	own := func() { s.review("orders-db/own", 1, "select, delete", "user:alice") }
	s.put(reviews.RootPath, reviews.KindRoot, "root", swapped, "user:alice")
	own()
	s.refused(s.propose("alice's root"), "trust", "approval", "mixed")
	s.merge("alice's root")
	r := s.granted("orders-db/etl#1")
	s.says(r, "under the trust root before it, version 1, it is not approved")
	if r.Broken == "" {
		t.Error("nobody is told")
	}
	// Signed as it should be, but in one commit with what it would allow.
	s.access.Files[reviews.RootPath] = &fstest.MapFile{Data: good}
	s.access.Remove("reviews/orders-db/own.yaml")
	s.put(reviews.RootPath, reviews.KindRoot, "root", siegeRoot(1, ""), "user:bob", "user:carol")
	s.merge("back")
	s.put(reviews.RootPath, reviews.KindRoot, "root", strings.Replace(siegeRoot(2, ""), `reviewers: ["user:bob"`, `reviewers: ["user:dan", "user:bob"`, 1), "user:bob", "user:carol")
	s.review("orders-db/dans", 1, "select", "user:dan")
	s.refused(s.propose("both at once"), "mixed")
	s.merge("both at once")
	s.says(s.granted("orders-db/etl#1"), "together with trust, config or policies")
	s.sign("reviews/orders-db/dans.yaml", reviews.NamespaceReview, "user:carol")
	s.merge("and once more by itself")
	s.granted("orders-db/dans#1 orders-db/etl#1")
	// Another root under the release key: a gateway pins what it follows from.
	s.pin = strings.Repeat("0", 64)
	if _, err := s.open(false); !errors.Is(err, release.ErrUntrusted) {
		t.Errorf("another pin: %v", err)
	}
}

// A policy that lets more through needs security's word, and a policy does not go silently.
func weakenedPolicy(t *testing.T) {
	s := newSiege(t)
	s.base = s.git("rev-parse", "HEAD")
	const open = "\npackage access\n\nallow := true\n"
	for name, by := range map[string][]string{"unsigned": nil, "by the requester": {"user:alice"}, "without security": {"user:bob", "user:carol"}, "by security alone": {"user:dan"}} {
		s.policy(open, by...)
		s.refused(s.propose("open"), "approval")
		s.merge(name)
		r := s.granted("orders-db/etl#1")
		s.says(r, siegePolicy)
		if r.Broken == "" {
			t.Errorf("%s: nobody is told", name)
		}
	}
	// Well signed, a policy still allows nothing by itself, and reaches neither the network nor the judgement itself.
	for name, rules := range map[string]string{
		"the network": siegeRules + "deny contains \"x\" if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 1\n",
		"the clock":   siegeRules + "deny contains \"x\" if time.now_ns() > 1\n",
		"environment": siegeRules + "deny contains \"x\" if opa.runtime().env.X\n",
		"memory":      siegeRules + "deny contains \"x\" if bits.lsh(1, 100000000000) > 1\n",
		"takes over":  "\npackage sallyport.decision\n\nverdict := \"allow\"\n",
	} {
		s.policy(rules, "user:bob", "user:dan")
		s.refused(s.propose("rules"), "policy", "document")
		s.merge(name)
		if r := s.granted("orders-db/etl#1"); r.Broken == "" {
			t.Errorf("%s: in force", name)
		}
	}
	s.policy(open, "user:bob", "user:dan")
	s.merge("well signed")
	if r := s.granted("orders-db/etl#1"); r.Broken != "" {
		t.Error(r.Broken)
	}
	if err := s.run("select", "app.orders"); err != nil {
		t.Error(err)
	}
	var denied *gatewayd.Denied
	if err := s.run("delete", "app.orders"); !errors.As(err, &denied) {
		t.Errorf("a policy that says allow lets through what the review does not: %v", err)
	}
	s.access.Remove(siegePolicy)
	s.refused(s.propose("gone"), "policy_removed", "document")
	s.merge("gone")
	s.says(s.granted("orders-db/etl#1"), siegePolicy)
	s.policy(siegeRules+"# as it was\n", "user:bob", "user:dan")
	s.merge("back")
	if r := s.granted("orders-db/etl#1"); r.Broken != "" {
		t.Error(r.Broken)
	}
}

// A signature for one purpose serves no other.
func signatureContext(t *testing.T) {
	s := newSiege(t)
	path := s.review("orders-db/other", 1, "select")
	for _, namespace := range []string{
		reviews.NamespaceGit, "file", "", "sallyport.review.v2", "sallyport.review.v1 ", reviews.NamespaceRoot, reviews.NamespaceConfig, reviews.NamespacePrincipal,
		reviews.NamespaceConnection, reviews.NamespacePolicy, reviews.NamespaceRelease, reviews.NamespaceAttestation, reviews.NamespaceToken, reviews.NamespaceCheckpoint,
	} {
		s.review("orders-db/other", 1, "select")
		armored, err := reviews.Sign(accesstest.Signer("user:bob"), namespace, s.access.Files[path].Data)
		if err != nil {
			continue // not even bob can make it
		}
		s.access.Files[reviews.SidecarPath(path, "user:bob", accesstest.Signer("user:bob").PublicKey())] = &fstest.MapFile{Data: armored}
		s.refused(s.propose("context"), "approval")
		s.merge("signed for " + namespace)
		s.says(s.granted("orders-db/etl#1"), path+": not approved")
	}
	// bob's signature of a commit whose tree holds the review, as git makes it.
	payload := s.git("cat-file", "commit", "HEAD")
	armored, err := reviews.Sign(accesstest.Signer("user:bob"), reviews.NamespaceGit, []byte(payload))
	s.must(err)
	s.access.Files[reviews.SidecarPath(path, "user:bob", accesstest.Signer("user:bob").PublicKey())] = &fstest.MapFile{Data: armored}
	s.refused(s.propose("commit"), "approval")
	// And a review that bob signed is no release: only that namespace is.
	s.publish(s.envelope(), "release", reviews.NamespaceReview)
	if _, err := s.open(false); !errors.Is(err, release.ErrUntrusted) {
		t.Errorf("a release signed as a review: %v", err)
	}
}

// envelope is the release in the folder, as it is written.
type envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     []byte              `json:"payload"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	Fingerprint string `json:"fingerprint"`
	Signature   string `json:"signature"`
}

func (s *siege) envelope() (e envelope) {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.out, release.EnvelopeFile))
	s.must(err)
	s.must(json.Unmarshal(b, &e))
	return e
}

// publish writes an envelope, signed by that key.
func (s *siege) publish(e envelope, key, namespace string) {
	s.Helper()
	armored, err := reviews.Sign(accesstest.Signer(key), namespace, e.Payload)
	s.must(err)
	e.Signatures = []envelopeSignature{{fingerprintOf(key), string(armored)}}
	b, err := json.Marshal(e)
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.out, release.EnvelopeFile), b, 0o600))
}

// What CI did not see, sync does; two changes that are fine apart and not together close names, and open none.
func bypassAndStaleMerge(t *testing.T) {
	s := newSiege(t)
	// Pushed straight to the branch: unsigned, malformed, and one that is in order.
	bad := s.review("orders-db/unsigned", 1, "select")
	worse := s.review("orders-db/malformed", 1, "[", "user:bob")
	s.review("orders-db/fine", 1, "select", "user:bob")
	s.merge("past CI")
	s.says(s.granted("orders-db/etl#1 orders-db/fine#1"), bad, worse)
	s.access.Remove(bad)
	s.access.Remove(worse)
	s.merge("clean")

	// One pull request takes the agent out, another gives it a review. Both are in order.
	keep := s.access.Files
	s.access.Files = maps.Clone(keep)
	s.review("prod-db/etl", 1, "select", "user:bob", "user:carol")
	grants := s.propose("grants")
	s.access.Files = maps.Clone(keep)
	s.access.Remove("principals/agent_etl.yaml")
	removes := s.propose("removes")
	for _, head := range []string{grants, removes} {
		if r := s.check(head); !r.OK {
			t.Fatalf("check of a good half: %v", r.Findings)
		}
	}
	s.git("merge", "--quiet", "--no-edit", removes)
	s.git("merge", "--quiet", "--no-edit", grants)
	s.says(s.granted(""), "reviews/prod-db/etl.yaml", "agent:etl")

	// Two raise one review to the same sequence, and git keeps the later.
	s.access.Files = maps.Clone(keep)
	s.merge("again")
	s.granted("")
	s.access.Principal("agent:etl")
	s.access.Write("principals/agent_etl.yaml", reviews.KindPrincipal, "Principal", "agent:etl", "\n  # anew\n  owner: user:alice\n  keys: [{key: \""+accesstest.PublicKey("agent:etl")+"\"}]\n")
	s.merge("the agent anew")
	s.granted("orders-db/etl#1 orders-db/fine#1")
	first := s.review("orders-db/etl", 2, "select", "user:bob")
	s.merge("first")
	s.granted("orders-db/etl#2 orders-db/fine#1")
	s.review("orders-db/etl", 2, "select, delete", "user:carol")
	s.refused(s.propose("second"), "sequence")
	s.merge("second, past CI")
	s.says(s.granted("orders-db/fine#1"), first, "sequence 2 already stands for other bytes")
}

// A gateway loads what a release key signed, to the byte, and bundles that are whole.
func unsignedOrDelta(t *testing.T) {
	s := newSiege(t)
	good := filepath.Join(t.TempDir(), "good")
	s.must(os.CopyFS(good, os.DirFS(s.out)))
	edit := func(pattern, to string) func() {
		return func() {
			path := filepath.Join(s.out, release.EnvelopeFile)
			b, err := os.ReadFile(path)
			s.must(err)
			changed := regexp.MustCompile(pattern).ReplaceAll(b, []byte(to))
			if bytes.Equal(changed, b) {
				t.Fatalf("%s is not in %s", pattern, b)
			}
			s.must(os.WriteFile(path, changed, 0o600))
		}
	}
	const signatures, of = `"signatures":\[.*\]`, `"signatures":`
	by := func(key string) func() {
		return func() { s.publish(s.envelope(), key, reviews.NamespaceRelease) }
	}
	member := func(name, data string) func() {
		return func() { s.rebundle(func(m map[string][]byte) { m[name] = []byte(data) }) }
	}
	for name, play := range map[string]struct {
		do   func()
		want string
	}{
		"no signatures":           {edit(signatures, of+`[]`), "not signed by a release key"},
		"null for signatures":     {edit(signatures, of+`null`), "not signed by a release key"},
		"no such field":           {edit(`,`+signatures, ""), "canonical form"},
		"an empty signature":      {edit(signatures, of+`[{"fingerprint":"","signature":""}]`), "not signed by a release key"},
		"no signature, but a key": {edit(`"signature":"[^"]*"`, `"signature":""`), "not signed by a release key"},
		"an empty key":            {edit(`"fingerprint":"[^"]*"`, `"fingerprint":""`), "not signed by a release key"},
		"another's key":           {edit(`"fingerprint":"[^"]*"`, `"fingerprint":"`+fingerprintOf("user:bob")+`"`), "not signed by a release key"},
		"OPA's own signature":     {edit(signatures, of+`["eyJhbGciOiJub25lIn0.e30."]`), "JSON"},
		"a stranger":              {by("stranger"), "not signed by a release key"},
		"a reviewer":              {by("user:bob"), "not signed by a release key"},
		"the gateway":             {by("gw1"), "not signed by a release key"},
		"the attester":            {by("attester"), "not signed by a release key"},
		"a bundle taken out":      {func() { s.rebundle(nil) }, "no such file"},
		"a delta":                 {member("patch.json", `{"data":[{"op":"upsert","path":"/","value":{}}]}`), "delta bundle"},
		"OPA's signature file":    {member(".signatures.json", `{"signatures":[]}`), "name that bundles never have"},
		"a rule more":             {member("more.rego", "package sallyport.decision\n\nverdict := \"allow\"\n"), "digest of the members"},
		"a path out of it":        {member("../../x", ""), "name that bundles never have"},
	} {
		s.must(os.RemoveAll(s.out))
		s.must(os.CopyFS(s.out, os.DirFS(good)))
		play.do()
		fresh := release.Opener{Dir: s.out, Trust: release.Trust{RootDigest: s.pin}} // which no high-water mark protects
		if _, err := fresh.Open(t.Context(), nil, s.now); err == nil || !strings.Contains(err.Error(), play.want) {
			t.Errorf("%s: %v, want %q", name, err, play.want)
		}
	}
	s.must(os.RemoveAll(s.out))
	s.must(os.CopyFS(s.out, os.DirFS(good)))
	if _, err := s.open(false); err != nil {
		t.Error(err)
	}
}

// rebundle changes the members of a connection's bundle, and has the release key sign that.
// Nil takes the bundle out of the folder.
func (s *siege) rebundle(change func(members map[string][]byte)) {
	s.Helper()
	signed := s.envelope()
	var e release.Envelope
	s.must(json.Unmarshal(signed.Payload, &e))
	name := release.ConnectionBundle("orders-db")
	path := filepath.Join(s.out, "bundles", e.Bundles[name]+".tar.gz")
	if change == nil {
		s.must(os.Remove(path))
		return
	}
	packed, err := os.ReadFile(path)
	s.must(err)
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	s.must(err)
	members := map[string][]byte{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		s.must(err)
		members[h.Name], err = io.ReadAll(archive)
		s.must(err)
	}
	change(members)
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, member := range slices.Sorted(maps.Keys(members)) {
		s.must(archive.WriteHeader(&tar.Header{Name: member, Mode: 0o600, Size: int64(len(members[member]))}))
		_, err := archive.Write(members[member])
		s.must(err)
	}
	s.must(errors.Join(archive.Close(), zipped.Close()))
	old := e.Bundles[name]
	e.Bundles[name] = sha256Hex(out.Bytes())
	s.must(os.WriteFile(filepath.Join(s.out, "bundles", e.Bundles[name]+".tar.gz"), out.Bytes(), 0o600))
	signed.Payload = bytes.Replace(signed.Payload, []byte(old), []byte(e.Bundles[name]), 1)
	s.publish(signed, "release", reviews.NamespaceRelease)
}

// Whoever holds the release key grants nothing at a gateway that verifies for itself.
func compromisedSync(t *testing.T) {
	s := newSiege(t)
	if _, err := s.open(true); err != nil {
		t.Fatal(err)
	}
	mark, err := release.OpenHighWater(s.mark)
	s.must(err)
	sequence := mark.Sequence()
	published := func(tree *reviews.Tree) {
		t.Helper()
		sequence++
		built, err := release.Build(t.Context(), release.BuildInput{Tree: tree, Commit: s.git("rev-parse", "HEAD"), Ref: "refs/heads/main", Sequence: sequence, Now: s.now})
		s.must(err)
		s.must(release.Publish(s.out, built, accesstest.Signer("release")))
	}
	load := func() *reviews.Tree {
		t.Helper()
		tree, err := reviews.Load(s.access.Files, reviews.LoadOptions{Now: s.now, Approvals: reviews.ReportApprovals})
		s.must(err)
		return tree
	}
	honest := maps.Clone(s.access.Files)
	for name, tamper := range map[string]func() *reviews.Tree{
		"a review that nobody signed": func() *reviews.Tree { s.review("orders-db/own", 1, "select"); return load() },
		"a review by the requester":   func() *reviews.Tree { s.review("orders-db/own", 1, "select", "user:alice"); return load() },
		"a review widened": func() *reviews.Tree {
			f := *s.access.Files[siegeReview]
			f.Data = bytes.Replace(f.Data, []byte("[select]"), []byte("[select, delete]"), 1)
			s.access.Files[siegeReview] = &f
			return load()
		},
		"approvals invented": func() *reviews.Tree {
			tree := load()
			tree.Reviews["orders-db/etl"].Source.Approvals = []string{"user:bob", "user:carol"}
			return tree
		},
		"a policy left out": func() *reviews.Tree {
			tree := load()
			delete(tree.Policies, siegePolicy)
			return tree
		},
		"an agent with the attacker's key": func() *reviews.Tree {
			const path = "principals/agent_etl.yaml"
			f := *s.access.Files[path]
			f.Data = bytes.Replace(f.Data, []byte(accesstest.PublicKey("agent:etl")), []byte(accesstest.PublicKey("attacker")), 1)
			s.access.Files[path] = &f
			return load()
		},
	} {
		s.access.Files = maps.Clone(honest)
		published(tamper())
		if _, err := s.open(false); err != nil {
			t.Errorf("%s: it has to open without verify: full, or this shows nothing: %v", name, err)
		}
		if _, err := s.open(true); !errors.Is(err, release.ErrUnverified) {
			t.Errorf("%s: verify: full says %v", name, err)
		}
	}
}

// Nothing that a gateway told git goes away or changes unseen.
func auditTampering(t *testing.T) {
	play := map[string]func(dir string, summary string){
		"dropped": func(_, summary string) { _ = os.Remove(summary) },
		"altered": func(_, summary string) {
			b, _ := os.ReadFile(summary)
			_ = os.WriteFile(summary, bytes.Replace(b, []byte(`"commands":1`), []byte(`"commands":0`), 1), 0o600)
		},
		"moved":     func(_, summary string) { _ = os.Rename(summary, strings.Replace(summary, "s-", "t-", 1)) },
		"truncated": func(_, summary string) { _ = os.Truncate(summary, 10) },
	}
	for name, what := range play {
		for _, signer := range []string{"", "gw1", "gw2", "user:bob"} {
			e := newEvidence(t)
			var args []string
			if signer != "" {
				args = e.signWith(signer)
			}
			id := e.push(func(dir string) {
				files, err := filepath.Glob(filepath.Join(dir, "summaries/*/*/*/*.json"))
				if err != nil || len(files) != 1 {
					t.Fatal(files, err)
				}
				what(dir, files[0])
			}, args...)
			v := e.verify()
			if v.OK {
				t.Errorf("%s by %q: not found", name, signer)
			}
			e.wantProblem(v, id)
		}
	}
	// Rewound, which only who kept a later commit can tell; and gone.
	e := newEvidence(t)
	kept := e.git("rev-parse", "audit")
	e.commit("gw1", e.session("gw1", e.header))
	later := e.git("rev-parse", "audit")
	e.git("update-ref", "refs/heads/audit", kept)
	if v := e.verify("--audit-includes", later); v.OK {
		t.Error("a rewound audit branch is not found")
	}
	e.git("update-ref", "-d", "refs/heads/audit")
	if v := e.verify(); v.OK {
		t.Error("a missing audit branch is not found")
	}
}

// What is made to exhaust a parser ends with an answer, soon and in little memory.
func bombs(t *testing.T) {
	s := newSiege(t)
	honest := string(s.access.Files[siegeReview].Data)
	laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	keys := &strings.Builder{}
	for i := range 6000 {
		fmt.Fprintf(keys, "k%d: 1\n", i)
	}
	for name, bomb := range map[string]string{
		"a billion laughs": laughs,
		"depth":            "a: " + strings.Repeat("[", 30000) + strings.Repeat("]", 30000),
		"keys":             keys.String(),
		"merge keys":       "a: &a {b: 1}\n" + strings.Repeat("c: {<<: [*a, *a, *a]}\n", 1000),
		"100 MiB":          honest + "#" + strings.Repeat("x", 100<<20),
		"quotes":           `a: "` + strings.Repeat(`\u0041`, 10000) + `"`,
		"long line":        "a: " + strings.Repeat("b ", 31<<10),
	} {
		s.access.Remove(siegeReview)
		s.access.Files[siegeReview] = &fstest.MapFile{Data: []byte(bomb)}
		s.sign(siegeReview, reviews.NamespaceReview, "user:bob")
		head := s.propose("bomb")
		bounded(t, name+" in check", 10*time.Second, 128<<20, func() { s.refused(head, "document") })
	}
	s.access.Remove(siegeReview)
	s.access.Files[siegeReview] = &fstest.MapFile{Data: []byte(laughs)}
	s.sign(siegeReview, reviews.NamespaceReview, "user:bob")
	s.merge("laughs")
	bounded(t, "sync", 20*time.Second, 128<<20, func() { s.says(s.granted(""), siegeReview) })

	// A pull request of 100,000 files, made of one blob.
	var stream bytes.Buffer
	fmt.Fprintf(&stream, "commit refs/heads/flood\ncommitter x <x@example.com> 1 +0000\ndata 0\nfrom refs/heads/main\n")
	const text = "kind: AccessReview\n"
	blob := s.gitIn(strings.NewReader(text), "hash-object", "-w", "--stdin")
	for i := range 100000 {
		fmt.Fprintf(&stream, "M 100644 %s reviews/db-%d/f%d.yaml\n", blob, i/1000, i)
	}
	stream.WriteString("\n")
	s.gitIn(&stream, "fast-import", "--quiet")
	bounded(t, "100,000 files in check", 30*time.Second, 512<<20, func() { s.refused("flood", "document") })

	// A few trees that stand for 10^12 files, beside documents and among them.
	level := s.gitIn(strings.NewReader("100644 blob "+blob+"\tf\n"), "mktree")
	for range 12 {
		var lines strings.Builder
		for i := range 10 {
			fmt.Fprintf(&lines, "040000 tree %s\td%d\n", level, i)
		}
		level = s.gitIn(strings.NewReader(lines.String()), "mktree")
	}
	for _, folder := range []string{"docs", "principals"} {
		lines := s.git("ls-tree", "refs/heads/main")
		lines = strings.Join(slices.DeleteFunc(strings.Split(lines, "\n"), func(l string) bool { return strings.HasSuffix(l, "\t"+folder) }), "\n")
		tree := s.gitIn(strings.NewReader(lines+"\n040000 tree "+level+"\t"+folder+"\n"), "mktree")
		head := s.git("commit-tree", "-p", "refs/heads/main", "-m", "bomb", tree)
		bounded(t, "trees without end in "+folder, 60*time.Second, 1<<30, func() {
			if _, err := s.tryCheck(head); err == nil || !strings.Contains(err.Error(), errTooMuch.Error()) {
				t.Errorf("%s: %v", folder, err)
			}
		})
	}

	// A bundle that unpacks to more than it may.
	s.rebundle(func(m map[string][]byte) { m["data.json"] = bytes.Repeat([]byte{' '}, release.MaxBundle+1) })
	bounded(t, "a bundle", 20*time.Second, 512<<20, func() {
		fresh := release.Opener{Dir: s.out, Trust: release.Trust{RootDigest: s.pin}}
		if _, err := fresh.Open(t.Context(), nil, s.now); err == nil || !strings.Contains(err.Error(), "unpacks to more than") {
			t.Errorf("a zip bomb: %v", err)
		}
	})
}

// bounded fails when something takes longer or more memory, in all, than it may.
func bounded(t *testing.T, what string, long time.Duration, memory uint64, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	f()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; took > long || used > memory {
		t.Errorf("%s took %v and allocated %d MiB", what, took.Round(time.Millisecond), used>>20)
	} else {
		t.Logf("%s: %v, %d MiB allocated", what, took.Round(time.Millisecond), used>>20)
	}
}
