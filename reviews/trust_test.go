package reviews_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// forge puts the access repo on a forge: everybody has an account, reviews may be
// approved in pull requests, and the key attester attests.
func (a *access) forge(rules string) {
	a.keys["attester"] = newKey(a.t, 120)
	a.root(fmt.Sprintf("  attesters: [{key: %q}]\n", a.key("attester")))
	for i, name := range []string{"user:alice", "user:bob", "user:carol", "user:dan"} {
		a.replace(reviews.RootPath, fmt.Sprintf("{name: %q, keys:", name), fmt.Sprintf("{name: %q, forge: {gitea: %d}, keys:", name, i+1))
	}
	a.sign(reviews.RootPath, "user:alice", "user:bob")
	a.config("  forge: {kind: gitea, url: https://git.example, repository: acme/access}\n")
	a.replace(reviews.ConfigPath, "    - {match: {}, mode: signature, threshold: 1, groups: [dba]}\n", "    - {match: {kinds: [Principal, Connection, Policy]}, mode: signature, threshold: 1, groups: [dba]}\n"+rules)
	a.sign(reviews.ConfigPath, "user:alice", "user:bob")
	a.sign(reviewPath)
}

const forgeRule = "    - {match: {kinds: [AccessReview]}, mode: forge, threshold: 1, groups: [dba]}\n"

// approved is the statement that bob (2) approved alice's (1) pull request.
func (a *access) approved() reviews.ForgeApproval {
	return reviews.ForgeApproval{
		Repo: repo, Forge: "gitea", Repository: "acme/access", PullRequest: 7, Base: "main", Head: "c0ffee",
		Contributors: []int64{1}, Approvals: []reviews.AccountApproval{{ID: 2, Commit: "c0ffee", At: noon}}, AttestedAt: noon,
	}
}

func (a *access) attest(s reviews.ForgeApproval, key string, subject ...reviews.Content) {
	a.t.Helper()
	sum := digestOf(a.read(reviewPath))
	if subject == nil {
		subject = []reviews.Content{{Name: reviewPath, Digest: reviews.ContentDigest{SHA256: sum}}}
	}
	b, err := reviews.Attest(s, subject, a.keys[key])
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(reviews.AttestationPath(sum), string(b))
}

func TestForgeApproval(t *testing.T) {
	a := newAccess(t)
	a.forge(forgeRule)
	tree := a.loaded()
	if tree.Reviews["orders-db/etl"] != nil || len(tree.Pending) != 1 || tree.Pending[0].Path != reviewPath || len(tree.Problems) > 0 {
		t.Fatalf("merged and not yet attested: pending %v, problems %v", tree.Pending, tree.Problems)
	}
	a.attest(a.approved(), "attester")
	tree = a.loaded()
	if r := tree.Reviews["orders-db/etl"]; r == nil || !slices.Equal(r.Source.Approvals, []string{"user:bob"}) || len(tree.Pending) > 0 {
		t.Fatalf("attested: %+v, pending %v, problems %v", r, tree.Pending, tree.Problems)
	}
}

// TestForgeApprovalAttacks has a row for each way to get a review in force whose
// pull request the right accounts did not approve as it was merged.
func TestForgeApprovalAttacks(t *testing.T) {
	tests := []struct {
		name   string
		rules  string
		attack func(a *access, s *reviews.ForgeApproval)
		key    string
		want   string
	}{
		{name: "nobody approved", attack: func(_ *access, s *reviews.ForgeApproval) { s.Approvals = nil }, want: "has none"},
		{name: "an account that nobody knows", attack: func(_ *access, s *reviews.ForgeApproval) { s.Approvals[0].ID = 99 }, want: "has none"},
		{name: "an account outside the group", attack: func(_ *access, s *reviews.ForgeApproval) { s.Approvals[0].ID = 4 }, want: "has none"},
		{name: "the requester's account", attack: func(a *access, s *reviews.ForgeApproval) {
			a.replace(reviewPath, `requester: "user:alice"`, `requester: "user:bob"`)
		}, want: "has none"},
		{name: "opened the pull request", attack: func(_ *access, s *reviews.ForgeApproval) { s.Contributors = []int64{2} }, want: "has none"},
		{name: "pushed, then signed", attack: func(a *access, s *reviews.ForgeApproval) {
			s.Contributors = []int64{1, 2}
			s.Approvals = nil
			a.sign(reviewPath, "user:bob")
		}, want: "user:bob may not approve this: it contributed to the pull request"},
		{name: "approved an earlier push", attack: func(_ *access, s *reviews.ForgeApproval) { s.Approvals[0].Commit = "decade" }, want: "has none"},
		{name: "a bot", attack: func(_ *access, s *reviews.ForgeApproval) { s.Approvals[0].Bot = true }, want: "has none"},
		{name: "one person twice", rules: strings.Replace(forgeRule, "threshold: 1", "threshold: 2", 1), attack: func(a *access, s *reviews.ForgeApproval) {
			s.Approvals = append(s.Approvals, s.Approvals[0])
			a.sign(reviewPath, "user:bob")
		}, want: "needs 2 of dba, has 1 (user:bob)"},
		{name: "signature rule", rules: strings.Replace(forgeRule, "mode: forge", "mode: signature", 1), want: "has none"},
		{name: "one of the stricter group is missing", rules: strings.Replace(forgeRule, "groups: [dba]", "groups: [dba], oneOf: [root]", 1),
			attack: func(_ *access, s *reviews.ForgeApproval) { s.Approvals[0].ID = 3 }, want: "needs 1 of dba with one of root, has 1 (user:carol)"},
		{name: "the stricter group alone", rules: strings.Replace(forgeRule, "groups: [dba]", "groups: [dba], oneOf: [root]", 1),
			attack: func(_ *access, s *reviews.ForgeApproval) { s.Contributors, s.Approvals[0].ID = []int64{3}, 1 }, want: "has none"},
		{name: "other repository", attack: func(_ *access, s *reviews.ForgeApproval) { s.Repo = "6f0c2f5e-1111-4222-8333-444455556667" }, want: "it is about another access repo"},
		{name: "other forge", attack: func(_ *access, s *reviews.ForgeApproval) { s.Forge = "github" }, want: "it is from forge github"},
		{name: "other branch", attack: func(_ *access, s *reviews.ForgeApproval) { s.Base = "sandbox" }, want: "it is about a pull request to branch sandbox"},
		{name: "attested by a reviewer", key: "user:bob", want: "is not an attester"},
		{name: "attested by the release key", key: "release", want: "is not an attester"},
		{name: "revoked account", attack: func(a *access, _ *reviews.ForgeApproval) {
			a.write(reviews.RootPath, a.read(reviews.RootPath)+"  revoked: [{principal: \"user:bob\", reason: left}]\n")
			a.sign(reviews.RootPath, "user:alice", "user:bob")
			a.replace(reviews.RootPath, "threshold: 2", "threshold: 1")
			a.sign(reviews.RootPath, "user:alice")
			a.sign(reviews.ConfigPath, "user:alice")
			for _, path := range []string{"connections/orders-db.yaml", "principals/agent_etl.yaml", "policies/freeze.rego"} {
				a.sign(path, "user:carol")
			}
		}, want: "has none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			rules, key := tt.rules, tt.key
			if rules == "" {
				rules = forgeRule
			}
			if key == "" {
				key = "attester"
			}
			a.forge(rules)
			s := a.approved()
			if tt.attack != nil {
				tt.attack(a, &s)
			}
			a.attest(s, key)
			tree := a.loaded()
			if tree.Reviews["orders-db/etl"] != nil {
				t.Fatal("it is in force")
			}
			if text := fmt.Sprint(tree.Problems, tree.Pending, tree.Notes); !strings.Contains(text, tt.want) {
				t.Errorf("%s\ndoes not say %q", text, tt.want)
			}
		})
	}
	for name, edit := range map[string]func(a *access, path string){
		"of other contents": func(a *access, path string) {
			a.attest(a.approved(), "attester", reviews.Content{Name: reviewPath, Digest: reviews.ContentDigest{SHA256: digestOf("other")}})
		},
		"of another path": func(a *access, path string) {
			a.attest(a.approved(), "attester", reviews.Content{Name: "reviews/orders-db/els.yaml", Digest: reviews.ContentDigest{SHA256: digestOf(a.read(reviewPath))}})
		},
		"with a byte changed": func(a *access, path string) { a.replace(path, `"payload":"e`, `"payload":"f`) },
		"with a key added":    func(a *access, path string) { a.replace(path, `{"payloadType"`, `{"x":1,"payloadType"`) },
		"with a repeated key": func(a *access, path string) { a.replace(path, `{"payloadType"`, `{"payloadType":"x","payloadType"`) },
		"that is truncated":   func(a *access, path string) { a.write(path, a.read(path)[:100]) },
		"that is empty":       func(a *access, path string) { a.write(path, "") },
		"in another namespace": func(a *access, path string) {
			var signed struct {
				PayloadType string `json:"payloadType"`
				Payload     []byte `json:"payload"`
				Signature   string `json:"signature"`
			}
			if err := json.Unmarshal([]byte(a.read(path)), &signed); err != nil {
				t.Fatal(err)
			}
			signed.Signature = string(sign(t, a.keys["attester"], reviews.NamespaceRelease, signed.Payload))
			b, err := json.Marshal(signed)
			if err != nil {
				t.Fatal(err)
			}
			a.write(path, string(b))
		},
	} {
		t.Run("attestation "+name, func(t *testing.T) {
			a := newAccess(t)
			a.forge(forgeRule)
			a.attest(a.approved(), "attester")
			edit(a, reviews.AttestationPath(digestOf(a.read(reviewPath))))
			tree := a.loaded()
			if tree.Reviews["orders-db/etl"] != nil || len(tree.Pending) != 1 || !strings.Contains(fmt.Sprint(tree.Pending[0].Ignored), "does not count") {
				t.Errorf("in force, or not awaiting another one: pending %v, problems %v", tree.Pending, tree.Problems)
			}
		})
	}
}

// An attestation that is not enough is not the last word: the account may come into
// the trust root, and others may approve.
func TestAttestedAndNotEnoughIsPending(t *testing.T) {
	a := newAccess(t)
	a.forge(forgeRule)
	s := a.approved()
	s.Approvals[0].ID = 99
	a.attest(s, "attester")
	pending := func() {
		t.Helper()
		tree := a.loaded()
		if tree.Reviews["orders-db/etl"] != nil || len(tree.Problems) > 0 || len(tree.Pending) != 1 || tree.Pending[0].Path != reviewPath {
			t.Fatalf("pending %v, problems %v", tree.Pending, tree.Problems)
		}
		if text := fmt.Sprint(tree.Pending[0].Ignored); !strings.Contains(text, "account gitea/99 approved and belongs to nobody in trust/root.yaml") {
			t.Errorf("it says %s", text)
		}
	}
	pending()
	s.Approvals = append(s.Approvals, reviews.AccountApproval{ID: 2, Commit: "c0ffee", At: noon})
	a.attest(s, "attester")
	if tree := a.loaded(); tree.Reviews["orders-db/etl"] == nil {
		t.Errorf("another approval was attested: pending %v, problems %v", tree.Pending, tree.Problems)
	}
	s.Approvals = s.Approvals[:1]
	a.attest(s, "attester")
	pending()
	a.replace(reviews.RootPath, `{name: "user:carol", forge: {gitea: 3}`, `{name: "user:carol", forge: {gitea: 99}`)
	a.sign(reviews.RootPath, "user:alice", "user:bob")
	if tree := a.loaded(); tree.Reviews["orders-db/etl"] == nil {
		t.Errorf("the account is carol's: pending %v, problems %v", tree.Pending, tree.Problems)
	}
}

// Attested judges the file that a caller shows as Load would judge it.
func TestAttested(t *testing.T) {
	a := newAccess(t)
	a.forge(forgeRule)
	a.attest(a.approved(), "attester")
	tree, sum := a.loaded(), digestOf(a.read(reviewPath))
	b := []byte(a.read(reviews.AttestationPath(sum)))
	if s, err := tree.Attested(reviewPath, sum, b, noon); err != nil || s.Approvals[0].ID != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for name, err := range map[string]error{
		"another path":  func() error { _, err := tree.Attested("reviews/orders-db/x.yaml", sum, b, noon); return err }(),
		"other bytes":   func() error { _, err := tree.Attested(reviewPath, digestOf("x"), b, noon); return err }(),
		"junk":          func() error { _, err := tree.Attested(reviewPath, sum, []byte("junk"), noon); return err }(),
		"trailing junk": func() error { _, err := tree.Attested(reviewPath, sum, append(slices.Clone(b), ' '), noon); return err }(),
	} {
		if err == nil {
			t.Errorf("%s counts", name)
		}
	}
}

func TestBotsWhereTheRuleSaysSo(t *testing.T) {
	a := newAccess(t)
	a.forge(strings.Replace(forgeRule, "groups:", "bots: true, groups:", 1))
	s := a.approved()
	s.Approvals[0].Bot = true
	a.attest(s, "attester")
	if tree := a.loaded(); tree.Reviews["orders-db/etl"] == nil {
		t.Error(tree.Problems)
	}
}

func TestAutomaticApproval(t *testing.T) {
	yes := func(o *reviews.LoadOptions) {
		o.AutoApprove = func(r *reviews.Review, c *reviews.Connection) string {
			if r.Metadata.Name != "orders-db/etl" || c.Metadata.Name != "orders-db" {
				t.Errorf("asked about %s on %s", r.Metadata.Name, c.Metadata.Name)
			}
			return "small reads"
		}
	}
	no := func(o *reviews.LoadOptions) {
		o.AutoApprove = func(*reviews.Review, *reviews.Connection) string { return "" }
	}
	for _, tt := range []struct {
		name, rule string
		opt        func(*reviews.LoadOptions)
		want       bool
	}{
		{"rule and policy", "    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [dba]}\n", yes, true},
		{"policy says no", "    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [dba]}\n", no, false},
		{"no policy", "    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [dba]}\n", func(*reviews.LoadOptions) {}, false},
		{"rule does not admit it", "    - {match: {kinds: [AccessReview]}, mode: signature, threshold: 1, groups: [dba]}\n", yes, false},
		{"one of two", "    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 2, groups: [dba]}\n", yes, false},
		{"a second rule does not admit it", "    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [dba]}\n    - {match: {verbs: [select]}, mode: signature, threshold: 1, groups: [dba]}\n", yes, false},
		{"oneOf is for people", "    - {match: {kinds: [AccessReview]}, mode: signature, auto: true, threshold: 1, groups: [dba], oneOf: [root]}\n", yes, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			a.forge(tt.rule)
			tree := a.loaded(tt.opt)
			if got := tree.Reviews["orders-db/etl"]; (got != nil) != tt.want || got != nil && !slices.Equal(got.Source.Approvals, []string{reviews.AutoApproval}) {
				t.Errorf("%+v: %v", got, tree.Problems)
			}
		})
	}
}

// Which rules a document needs cannot be talked down by the document.
func TestWhichRulesMatch(t *testing.T) {
	const two = "mode: signature, threshold: 2, groups: [dba]}\n"
	for _, tt := range []struct {
		name, rule string
		change     func(a *access)
		opt        func(*reviews.LoadOptions)
		strict     bool
	}{
		{name: "risk", rule: "{match: {risks: [high]}, " + two, change: func(a *access) { a.connection("orders-db", "  risk: high\n") }, strict: true},
		{name: "other risk", rule: "{match: {risks: [high]}, " + two, change: func(a *access) { a.connection("orders-db", "  risk: low\n") }},
		{name: "risk before", rule: "{match: {risks: [high]}, " + two, change: func(a *access) { a.connection("orders-db", "  risk: low\n") },
			opt: func(o *reviews.LoadOptions) { o.RiskBefore = func(string) string { return "high" } }, strict: true},
		{name: "verb allowed", rule: "{match: {verbs: [drop, select]}, " + two, strict: true},
		{name: "verb held", rule: "{match: {verbs: [delete]}, " + two, change: func(a *access) { a.review("orders-db/etl", "  hold: [{verbs: [delete], on: [app.orders]}]\n") }, strict: true},
		{name: "other verb", rule: "{match: {verbs: [delete]}, " + two},
		{name: "path", rule: "{match: {paths: [reviews/orders-*]}, " + two, strict: true},
		{name: "other path", rule: "{match: {paths: [reviews/prod-*]}, " + two},
		{name: "unmask", rule: "{match: {unmask: true}, " + two, change: func(a *access) { a.review("orders-db/etl", "  unmask: [app.customers.ssn]\n") }, strict: true},
		{name: "no unmask", rule: "{match: {unmask: true}, " + two},
		{name: "lookup", rule: "{match: {unmask: true}, " + two, change: func(a *access) {
			a.review("orders-db/etl", "  mask: [{column: app.customers.ssn, with: last4, lookup: true}]\n")
		}, strict: true},
		{name: "lookup by a column of its own", rule: "{match: {unmask: true}, " + two, change: func(a *access) {
			a.review("orders-db/etl", "  mask: [{column: app.customers.email, with: redact, lookup: true}]\n")
		}, strict: true},
		{name: "a mask alone", rule: "{match: {unmask: true}, " + two, change: func(a *access) {
			a.review("orders-db/etl", "  mask: [{column: app.customers.email, with: redact}]\n")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			a.forge("    - {match: {}, mode: signature, threshold: 1, groups: [dba]}\n    - " + tt.rule)
			if tt.change != nil {
				tt.change(a)
			}
			a.sign("connections/orders-db.yaml", "user:bob", "user:carol")
			opt := func(*reviews.LoadOptions) {}
			if tt.opt != nil {
				opt = tt.opt
			}
			a.sign(reviewPath, "user:bob")
			if tree := a.loaded(opt); (tree.Reviews["orders-db/etl"] == nil) != tt.strict {
				t.Errorf("with one approval: %v", tree.Problems)
			}
			a.sign(reviewPath, "user:bob", "user:carol")
			if tree := a.loaded(opt); tree.Reviews["orders-db/etl"] == nil {
				t.Errorf("with two approvals: %v", tree.Problems)
			}
		})
	}
}

func TestUnmaskNeedsARuleForIt(t *testing.T) {
	a := newAccess(t)
	a.review("orders-db/etl", "  unmask: [app.customers.ssn]\n")
	a.sign(reviewPath, "user:bob", "user:carol")
	if tree := a.loaded(); tree.Reviews["orders-db/etl"] != nil || !strings.Contains(tree.Problems.Error(), "no approval rule is for reviews that unmask") {
		t.Error(tree.Problems)
	}
}

func TestLookupNeedsARuleForIt(t *testing.T) {
	a := newAccess(t)
	a.review("orders-db/etl", "  mask: [{column: app.customers.ssn, with: last4, lookup: true}]\n")
	a.sign(reviewPath, "user:bob", "user:carol")
	tree := a.loaded()
	if tree.Reviews["orders-db/etl"] != nil || !strings.Contains(tree.Problems.Error(), "no approval rule is for reviews that unmask") || !strings.Contains(tree.Problems.Error(), "or delete lookup") {
		t.Error(tree.Problems)
	}
}

// A review says a mask of the connection again to look rows up by it, and in no other way.
func TestLookupsOfASession(t *testing.T) {
	for _, tt := range []struct{ mask, says string }{
		{"{column: app.customers.ssn, with: last4, lookup: true}", ""},
		{"{column: app.customers.ssn, with: redact, lookup: true}", "already masks app.customers.ssn"},
		{"{column: app.customers.ssn, with: last4}", "already masks app.customers.ssn"},
		{"{column: app.customers.ssn, with: last4, lookup: false}", "lookup: false means nothing"},
		{"{column: app.customers.ssn, with: last5, lookup: true}", "mask \"last5\" does not exist"},
	} {
		a := newAccess(t)
		a.forge("    - {match: {}, mode: signature, threshold: 1, groups: [dba]}\n    - {match: {unmask: true}, mode: signature, threshold: 1, groups: [dba]}\n")
		a.review("orders-db/etl", "  mask: ["+tt.mask+"]\n")
		tree := a.loaded()
		r := tree.Reviews["orders-db/etl"]
		if tt.says != "" {
			if r != nil || !strings.Contains(tree.Problems.Error(), tt.says) {
				t.Errorf("%s: %v", tt.mask, tree.Problems)
			}
			continue
		}
		if r == nil {
			t.Fatal(tree.Problems)
		}
		if got := r.Masks(tree.Connections["orders-db"]); len(got) != 1 || !got[0].Lookup || got[0].With != "last4" {
			t.Errorf("%s: %+v", tt.mask, got)
		}
	}
}

func TestMaskForms(t *testing.T) {
	for with, ok := range map[string]bool{
		"redact": true, "hash": true, "first": true, "first(3)": true, "last(32)": true, "last4": true, "month": true, "bucket(1000)": true, "json(redact a)": true, "json(null a.b *.c-d)": true,
		"last": false, "first()": false, "first(0)": false, "last5": false, "bucket": false, "bucket(x)": false, "json(a)": false, "json(redact)": false, "json(redact a..b)": false, "decade": false, "redact; drop table x": false,
	} {
		a := newAccess(t)
		a.review("orders-db/etl", "  mask: [{column: app.customers.email, with: \""+with+"\"}]\n")
		if tree := a.loaded(); (tree.Reviews["orders-db/etl"] != nil) != ok {
			t.Errorf("%s: %v", with, tree.Problems)
		}
	}
}

func TestHashFunctionOfAConnection(t *testing.T) {
	for more, says := range map[string]string{
		"  hashFunction: sallyport.hash\n": "", "  hashFunction: hash\n": "is not a function", "  hashFunction: sallyport.hash\n  functions: [sallyport.hash]\n": "also listed under functions",
	} {
		a := newAccess(t)
		a.connection("orders-db", more)
		if tree := a.loaded(); (tree.Connections["orders-db"] != nil) != (says == "") || !strings.Contains(tree.Problems.Error(), says) {
			t.Errorf("%s: %v", more, tree.Problems)
		}
	}
}

func TestMasksOfASession(t *testing.T) {
	a := newAccess(t)
	a.forge("    - {match: {}, mode: signature, threshold: 1, groups: [dba]}\n    - {match: {unmask: true}, mode: signature, threshold: 1, groups: [dba]}\n")
	a.review("orders-db/etl", "  unmask: [app.customers.ssn]\n  mask: [{column: app.customers.email, with: email}]\n")
	tree := a.loaded()
	r := tree.Reviews["orders-db/etl"]
	if r == nil {
		t.Fatal(tree.Problems)
	}
	if got := r.Masks(tree.Connections["orders-db"]); len(got) != 1 || got[0].Column != "app.customers.email" {
		t.Error(got)
	}
}

func TestTombstone(t *testing.T) {
	a := newAccess(t)
	a.root(fmt.Sprintf("  tombstones: [{sha256: %s, reason: incident 42}]\n", digestOf(a.read(reviewPath))))
	if tree := a.loaded(); tree.Reviews["orders-db/etl"] != nil || !strings.Contains(tree.Problems.Error(), "closes these contents for good (incident 42)") {
		t.Error(tree.Problems)
	}
}

func TestDelegation(t *testing.T) {
	delegated := "  delegations: [{principals: \"agent:ops-*\", group: ops}]\n"
	setUp := func(t *testing.T) *access {
		a := newAccess(t)
		a.root(delegated)
		a.replace(reviews.RootPath, "groups: {", "groups: {ops: [\"user:dan\"], ")
		a.sign(reviews.RootPath, "user:alice", "user:bob")
		return a
	}
	for _, tt := range []struct {
		name, principal, owner, signer string
		want                           bool
	}{
		{"its group", "agent:ops-1", "user:alice", "user:dan", true},
		{"the group of the rules", "agent:ops-1", "user:alice", "user:bob", false},
		{"its group outside the prefix", "agent:opx", "user:alice", "user:dan", false},
		{"a person of that name", "user:ops-1", "user:alice", "user:dan", false},
		{"its owner", "agent:ops-1", "user:dan", "user:dan", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := setUp(t)
			path := a.principal(tt.principal, tt.owner, "user:mallory")
			a.sign(path, tt.signer)
			if tree := a.loaded(); (tree.Principals[tt.principal] != nil) != tt.want {
				t.Error(tree.Problems)
			}
		})
	}
}

// What a key approved counts as the key stood when it was first seen, and a
// revocation decides by that time, too.
func TestApprovalsAreJudgedByWhenTheyWereSeen(t *testing.T) {
	early, late := noon.Add(-time.Hour), noon.Add(time.Hour)
	at := noon.Format(time.RFC3339)
	seen := func(when time.Time) func(*reviews.LoadOptions) {
		return func(o *reviews.LoadOptions) {
			o.Now = late
			o.Seen = func(string) time.Time { return when }
		}
	}
	fingerprint := func(a *access, name string) string { return reviews.Key{Key: a.key(name)}.Fingerprint() }
	for _, tt := range []struct {
		name   string
		change func(a *access) string // of the root
		seen   time.Time
		want   bool
	}{
		{"expired since", func(a *access) string { a.replaceKey("user:carol", `, notAfter: "`+at+`"`); return "" }, early, true},
		{"expired before", func(a *access) string { a.replaceKey("user:carol", `, notAfter: "`+at+`"`); return "" }, noon, false},
		{"revoked after, seen before", func(a *access) string {
			return fmt.Sprintf("  revoked: [{fingerprint: %q, mode: after, at: %q, reason: lost}]\n", fingerprint(a, "user:carol"), at)
		}, early, true},
		{"revoked after, seen after", func(a *access) string {
			return fmt.Sprintf("  revoked: [{fingerprint: %q, mode: after, at: %q, reason: lost}]\n", fingerprint(a, "user:carol"), at)
		}, noon, false},
		{"revoked after, never seen", func(a *access) string {
			return fmt.Sprintf("  revoked: [{fingerprint: %q, mode: after, at: %q, reason: lost}]\n", fingerprint(a, "user:carol"), at)
		}, time.Time{}, false},
		{"revoked, seen before", func(a *access) string {
			return fmt.Sprintf("  revoked: [{fingerprint: %q, reason: lost}]\n", fingerprint(a, "user:carol"))
		}, early, false},
		{"principal revoked", func(a *access) string { return "  revoked: [{principal: \"user:carol\", mode: all, reason: left}]\n" }, early, false},
		{"principal revoked after, seen before", func(a *access) string {
			return fmt.Sprintf("  revoked: [{principal: \"user:carol\", mode: after, at: %q, reason: left}]\n", at)
		}, early, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			if more := tt.change(a); more != "" {
				a.root(more)
			}
			a.sign(reviewPath, "user:carol")
			if tree := a.loaded(seen(tt.seen)); (tree.Reviews["orders-db/etl"] != nil) != tt.want {
				t.Error(tree.Problems)
			}
		})
	}
}

// A revoked person cannot log in any more, whatever their approvals are worth.
func TestRevokedPrincipalHasNoKeys(t *testing.T) {
	a := newAccess(t)
	a.root(`  revoked: [{principal: "agent:etl", reason: gone}, {principal: "user:dan", mode: after, at: "2027-02-01T00:00:00Z", reason: leaving}]` + "\n")
	tree := a.loaded()
	if len(tree.Keys("agent:etl"))+len(tree.Keys("user:dan")) != 0 || len(tree.Keys("user:alice")) != 1 {
		t.Errorf("%d, %d, %d keys", len(tree.Keys("agent:etl")), len(tree.Keys("user:dan")), len(tree.Keys("user:alice")))
	}
}

func TestSuccession(t *testing.T) {
	parse := func(a *access) *reviews.Root {
		tree := a.loaded()
		return tree.Root
	}
	for _, tt := range []struct {
		name   string
		change func(a *access)
		want   string
	}{
		{"next version by both", func(a *access) { a.sign(reviews.RootPath, "user:alice", "user:bob") }, ""},
		{"the same version", func(a *access) {
			a.replace(reviews.RootPath, "version: 2", "version: 1")
			a.sign(reviews.RootPath, "user:alice", "user:bob")
		}, "version 1 does not follow 1"},
		{"a version left out", func(a *access) {
			a.replace(reviews.RootPath, "version: 2", "version: 3")
			a.sign(reviews.RootPath, "user:alice", "user:bob")
		}, "version 3 does not follow 1"},
		{"only the new threshold", func(a *access) {
			a.replace(reviews.RootPath, `root: ["user:alice", "user:bob"]`, `root: ["user:carol", "user:dan"]`)
			a.sign(reviews.RootPath, "user:carol", "user:dan")
			a.sign(reviews.ConfigPath, "user:carol", "user:dan")
		}, "under the trust root before it, version 1, it is not approved"},
		{"a lower threshold, by itself", func(a *access) {
			a.replace(reviews.RootPath, "threshold: 2", "threshold: 1")
			a.sign(reviews.RootPath, "user:alice")
		}, "needs 2 of root, has 1 (user:alice)"},
		{"handed over by both", func(a *access) {
			a.replace(reviews.RootPath, `root: ["user:alice", "user:bob"]`, `root: ["user:carol", "user:dan"]`)
			a.sign(reviews.RootPath, "user:alice", "user:bob", "user:carol", "user:dan")
			a.sign(reviews.ConfigPath, "user:carol", "user:dan")
		}, ""},
		{"keys swapped for the attacker's", func(a *access) {
			text := a.read(reviews.RootPath)
			a.keys["user:alice"], a.keys["user:bob"] = newKey(t, 201), newKey(t, 202)
			a.root("")
			a.write(reviews.RootPath, strings.Replace(a.read(reviews.RootPath), "version: 1", "version: 2", 1))
			if text == a.read(reviews.RootPath) {
				t.Fatal("nothing changed")
			}
			a.sign(reviews.RootPath, "user:alice", "user:bob")
			a.sign(reviews.ConfigPath, "user:alice", "user:bob")
			a.sign("policies/freeze.rego", "user:carol")
		}, "has none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			before := parse(a)
			a.replace(reviews.RootPath, "version: 1", "version: 2")
			tt.change(a)
			err := parse(a).Succeeds(before, reviews.LoadOptions{Now: noon})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// The documents that stand in a tree are checked in form like all others.
func TestBadTrustFields(t *testing.T) {
	for more, want := range map[string]string{
		`  attesters: [{key: KEY}]`:                                                                              "already a key of user:alice",
		`  delegations: [{principals: "user:*", group: dba}]`:                                                    "cannot be delegated",
		`  delegations: [{principals: "agent:*x*", group: dba}]`:                                                 "cannot be delegated",
		`  delegations: [{principals: "agent:a*", group: nobody}]`:                                               "group \"nobody\" does not exist",
		`  delegations: [{principals: "agent:a*", group: dba, threshold: 3}]`:                                    "threshold has to be between 1 and 2",
		`  delegations: [{principals: "agent:a*", group: dba, threshold: 0}]`:                                    "threshold has to be between 1 and 2",
		`  delegations: [{principals: "agent:a*", group: dba}, {principals: "agent:ab*", group: root}]`:          "overlaps delegations[0]",
		`  tombstones: [{sha256: abc, reason: x}]`:                                                               "not the sha256",
		`  tombstones: [{sha256: "` + digestOf("x") + `"}]`:                                                      "reason is missing",
		`  revoked: [{reason: x}]`:                                                                               "not a key's fingerprint",
		`  revoked: [{principal: "user:dan", fingerprint: "SHA256:` + strings.Repeat("A", 43) + `", reason: x}]`: "not both",
		`  revoked: [{principal: "user:dan", mode: after, reason: x}]`:                                           "at is missing",
		`  revoked: [{principal: "user:dan", mode: before, reason: x}]`:                                          "mode \"before\" does not exist",
		`  revoked: [{principal: "user:dan", at: "2027-01-01T00:00:00Z", reason: x}]`:                            "at means nothing",
	} {
		a := newAccess(t)
		a.root(strings.ReplaceAll(more, "KEY", fmt.Sprintf("%q", a.key("user:alice"))) + "\n")
		if _, err := a.load(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "trust/root.yaml:") {
			t.Errorf("%s\n%v, want %q", more, err, want)
		}
	}
	for rule, want := range map[string]string{
		"{match: {}, mode: forge, threshold: 1, groups: [dba]}":                      "mode forge needs spec.forge",
		"{match: {risks: [huge]}, mode: signature, threshold: 1, groups: [dba]}":     `risk "huge" does not exist`,
		"{match: {verbs: [selct]}, mode: signature, threshold: 1, groups: [dba]}":    `verb "selct" does not exist`,
		"{match: {paths: [../x]}, mode: signature, threshold: 1, groups: [dba]}":     "is not a path or pattern",
		"{match: {unmask: false}, mode: signature, threshold: 1, groups: [dba]}":     "unmask: false means nothing",
		"{match: {}, mode: signature, bots: true, threshold: 1, groups: [dba]}":      "bots do not sign",
		"{match: {}, mode: signature, threshold: 1, groups: [dba], oneOf: [nobody]}": "group nobody is not in",
	} {
		a := newAccess(t)
		a.config("")
		a.replace(reviews.ConfigPath, "    - {match: {}, mode: signature, threshold: 1, groups: [dba]}\n", "    - "+rule+"\n")
		a.sign(reviews.ConfigPath, "user:alice", "user:bob")
		if _, err := a.load(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "sallyport.yaml:") {
			t.Errorf("%s\n%v, want %q", rule, err, want)
		}
	}
}

// A policy that is no plain file denies nothing, so nothing is granted beside it.
func TestPolicyThatIsNoPlainFile(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"executable": 0o755, "a link": fs.ModeSymlink | 0o777} {
		a := newAccess(t)
		a.files["policies/freeze.rego"].Mode = mode
		if _, err := a.load(); err == nil || !strings.Contains(err.Error(), "policies/freeze.rego") {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := newAccess(t)
	a.write("policies/Other.rego", "package access\n")
	if _, err := a.load(); err == nil {
		t.Error("a policy of another name is passed over")
	}
	a = newAccess(t)
	a.write("policies/README.md", "what these are\n")
	if _, err := a.load(); err != nil {
		t.Errorf("a page beside policies: %v", err)
	}
}
