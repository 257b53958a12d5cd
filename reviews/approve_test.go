package reviews_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

const reviewPath = "reviews/orders-db/etl.yaml"

// TestApprovalAttacks has a row for each way in which somebody may try to get a
// review in force that the right people did not sign. In every row the
// review is closed, the reason is named, and nothing else is affected.
func TestApprovalAttacks(t *testing.T) {
	tests := []struct {
		name   string
		attack func(a *access)
		want   string
	}{
		{"unsigned", func(a *access) { a.sign(reviewPath) }, "approvals[0] needs 1 of dba, has none; sallyport sign reviews/orders-db/etl.yaml (by user:bob or user:carol)"},
		{"key that nobody knows", func(a *access) { a.sign(reviewPath, "user:mallory") }, "the key is not one of the trust root"},
		{"unknown key under another's name", func(a *access) {
			a.sign(reviewPath)
			a.addSignature(reviewPath, "user:bob", a.keys["user:mallory"], reviews.NamespaceReview, []byte(a.read(reviewPath)))
		}, "the key is not one of the trust root"},
		{"known key under another's name", func(a *access) {
			a.sign(reviewPath)
			a.addSignature(reviewPath, "user:bob", a.keys["user:dan"], reviews.NamespaceReview, []byte(a.read(reviewPath)))
		}, "it is by user:dan, and the file name says otherwise"},
		{"not in the group", func(a *access) { a.sign(reviewPath, "user:dan") }, "approvals[0] needs 1 of dba, has none"},
		{"an agent's key", func(a *access) { a.sign(reviewPath, "agent:etl") }, "the key is not one of the trust root"},
		{"the release key", func(a *access) {
			a.sign(reviewPath)
			a.addSignature(reviewPath, "user:bob", a.keys["release"], reviews.NamespaceReview, []byte(a.read(reviewPath)))
		}, "the key is not one of the trust root"},
		{"the requester", func(a *access) {
			a.replace(reviewPath, `requester: "user:alice"`, `requester: "user:bob"`)
			a.sign(reviewPath, "user:bob")
		}, "user:bob may not approve this: it is the requester"},
		{"the requester's owner", func(a *access) {
			a.principal("agent:bot", "user:bob", "user:mallory")
			a.sign("principals/agent_bot.yaml", "user:carol")
			a.replace(reviewPath, `requester: "user:alice"`, `requester: "agent:bot"`)
			a.sign(reviewPath, "user:bob")
		}, "user:bob may not approve this: it is the requester's owner"},
		{"the subject", func(a *access) {
			a.replace(reviewPath, `subject: "agent:etl"`, `subject: "user:bob"`)
			a.sign(reviewPath, "user:bob")
		}, "user:bob may not approve this: it is the subject"},
		{"the subject's owner", func(a *access) {
			a.principal("agent:etl", "user:bob", "agent:etl")
			a.sign("principals/agent_etl.yaml", "user:carol")
			a.sign(reviewPath, "user:bob")
		}, "user:bob may not approve this: it is the subject's owner"},
		{"namespace file", func(a *access) {
			a.sign(reviewPath)
			a.addSignature(reviewPath, "user:bob", a.keys["user:bob"], "file", []byte(a.read(reviewPath)))
		}, `namespace "file" where "sallyport.review.v1" is needed`},
		{"namespace git", func(a *access) {
			a.sign(reviewPath)
			a.addSignature(reviewPath, "user:bob", a.keys["user:bob"], "git", []byte(a.read(reviewPath)))
		}, `namespace "git"`},
		{"namespace of another kind", func(a *access) {
			a.sign(reviewPath)
			a.addSignature(reviewPath, "user:bob", a.keys["user:bob"], reviews.NamespaceConnection, []byte(a.read(reviewPath)))
		}, `namespace "sallyport.connection.v1"`},
		{"edited after signing", func(a *access) { a.replace(reviewPath, "[select]", "[select, delete]") }, "the signature is not over these bytes"},
		{"one space added after signing", func(a *access) { a.replace(reviewPath, "nightly export", "nightly  export") }, "the signature is not over these bytes"},
		{"signature moved from another review", func(a *access) {
			other := a.review("orders-db/other", "")
			a.sign(reviewPath)
			for path, f := range a.files {
				if name, ok := strings.CutPrefix(path, other+".sigs/"); ok {
					a.files[reviewPath+".sigs/"+name] = f
				}
			}
		}, "the signature is not over these bytes"},
		{"junk signature", func(a *access) {
			a.sign(reviewPath)
			a.write(reviews.SidecarPath(reviewPath, "user:bob", a.keys["user:bob"].PublicKey()), "junk")
		}, "this is not an SSH signature"},
		{"signature under a plain name", func(a *access) {
			a.sign(reviewPath)
			a.write(reviewPath+".sigs/bob.sig", string(sign(a.t, a.keys["user:bob"], reviews.NamespaceReview, []byte(a.read(reviewPath)))))
		}, "has none"},
		{"review and its signature moved to another path", func(a *access) {
			moved := "reviews/orders-db/moved.yaml"
			a.write(moved, a.read(reviewPath))
			a.sign(moved, "user:bob")
			a.write(reviewPath, strings.Replace(a.read(reviewPath), "orders-db/etl", "orders-db/els", 1))
		}, `name "orders-db/els" belongs to reviews/orders-db/els.yaml, but the file is reviews/orders-db/etl.yaml`},
		{"from another repository", func(a *access) {
			a.replace(reviewPath, repo, "6f0c2f5e-1111-4222-8333-444455556667")
			a.sign(reviewPath, "user:bob")
		}, "belongs to repository"},
		{"revoked key", func(a *access) {
			a.root(fmt.Sprintf("  revoked: [{fingerprint: %q, reason: lost laptop}]\n", reviews.Key{Key: a.key("user:carol")}.Fingerprint()))
			a.sign(reviewPath, "user:carol")
		}, "the key is revoked (lost laptop)"},
		{"expired key", func(a *access) {
			a.replaceKey("user:carol", `, notAfter: "2027-01-15T12:00:00Z"`)
			a.sign(reviewPath, "user:carol")
		}, "the key expired at 2027-01-15T12:00:00Z"},
		{"key of the future", func(a *access) {
			a.replaceKey("user:carol", `, notBefore: "2027-01-15T12:00:01Z"`)
			a.sign(reviewPath, "user:carol")
		}, "the key is not valid before 2027-01-15T12:00:01Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			a.review("orders-db/bystander", "")
			tt.attack(a)
			a.sign("reviews/orders-db/bystander.yaml", "user:carol", "user:bob")
			if a.keys["user:dan"] == nil {
				t.Fatal("no keys")
			}
			tree := a.loaded()
			if tree.Reviews["orders-db/etl"] != nil {
				t.Error("the review is in force")
			}
			if !strings.Contains(tree.Problems.Error(), tt.want) {
				t.Errorf("want %q among:\n%v", tt.want, tree.Problems)
			}
			for _, p := range tree.Problems {
				if p.File != reviewPath && p.File != "reviews/orders-db/moved.yaml" {
					t.Errorf("a problem elsewhere: %v", p)
				}
			}
		})
	}
}

// replaceKey adds fields to a principal's key in the trust root and signs it anew.
func (a *access) replaceKey(principal, fields string) {
	a.replace(reviews.RootPath, a.key(principal)+`"`, a.key(principal)+`"`+fields)
	a.sign(reviews.RootPath, "user:alice", "user:bob")
}

// TestThreshold counts people: two keys, two signatures or two groups of one
// person are one approval.
func TestThreshold(t *testing.T) {
	second := newKey(t, 77)
	path := "reviews/prod-db/etl.yaml"
	setup := func() *access {
		a := newAccess(t)
		a.connection("prod-db", "")
		a.review("prod-db/etl", "")
		bob := fmt.Sprintf("[{key: %q}", a.key("user:bob"))
		a.replace(reviews.RootPath, bob+"]", bob+fmt.Sprintf(", {key: %q}]", authorized(second.PublicKey())))
		a.sign(reviews.RootPath, "user:alice", "user:bob")
		return a
	}
	t.Run("one of two", func(t *testing.T) {
		a := setup()
		tree := a.loaded()
		if tree.Reviews["prod-db/etl"] != nil || !strings.Contains(tree.Problems.Error(), "approvals[1] needs 2 of dba, has 1 (user:bob)") {
			t.Error(tree.Problems)
		}
	})
	t.Run("two keys of one person", func(t *testing.T) {
		a := setup()
		a.addSignature(path, "user:bob", second, reviews.NamespaceReview, []byte(a.read(path)))
		tree := a.loaded()
		if tree.Reviews["prod-db/etl"] != nil || !strings.Contains(tree.Problems.Error(), "has 1 (user:bob)") {
			t.Error(tree.Problems)
		}
	})
	t.Run("two people", func(t *testing.T) {
		a := setup()
		a.sign(path, "user:bob", "user:carol")
		tree := a.loaded()
		r := tree.Reviews["prod-db/etl"]
		if r == nil || !reflect.DeepEqual(r.Source.Approvals, []string{"user:bob", "user:carol"}) {
			t.Error(tree.Problems)
		}
		if len(tree.Problems) > 0 || len(tree.Notes) != 1 {
			t.Errorf("problems %v, notes %v", tree.Problems, tree.Notes)
		}
	})
	t.Run("a signature that does not count does no harm", func(t *testing.T) {
		a := setup()
		a.sign(path, "user:bob", "user:carol", "user:mallory")
		tree := a.loaded()
		if tree.Reviews["prod-db/etl"] == nil || !strings.Contains(tree.Notes.Error(), "not one of the trust root") {
			t.Error(tree.Problems, tree.Notes)
		}
	})
}

// TestRootThreshold: without enough members of group root nothing loads.
func TestRootThreshold(t *testing.T) {
	for _, path := range []string{reviews.RootPath, reviews.ConfigPath} {
		for _, signers := range [][]string{{}, {"user:alice"}, {"user:alice", "user:carol"}, {"user:carol", "user:dan"}} {
			a := newAccess(t)
			a.sign(path, signers...)
			if _, err := a.load(); err == nil || !strings.Contains(err.Error(), path+": not approved: threshold needs 2 of root") {
				t.Errorf("%s signed by %v: %v", path, signers, err)
			}
		}
	}
}

func TestPrincipalDoesNotApproveItself(t *testing.T) {
	a := newAccess(t)
	path := a.principal("agent:etl", "user:bob", "agent:etl")
	tree := a.loaded()
	if tree.Principals["agent:etl"] != nil || !strings.Contains(tree.Problems.Error(), "user:bob may not approve this: it is the owner") {
		t.Error(tree.Problems)
	}
	if tree.Reviews["orders-db/etl"] != nil {
		t.Error("a review of a subject that does not exist is in force")
	}
	a.sign(path, "user:carol")
	a.sign(reviewPath, "user:carol")
	if tree = a.loaded(); tree.Reviews["orders-db/etl"] == nil {
		t.Error(tree.Problems)
	}
}

func TestNoRuleMatches(t *testing.T) {
	a := newAccess(t)
	a.replace(reviews.ConfigPath, "match: {}", "match: {kinds: [Principal, Connection, Policy]}")
	a.sign(reviews.ConfigPath, "user:alice", "user:bob")
	for _, mode := range []func(*reviews.LoadOptions){func(*reviews.LoadOptions) {}, report} {
		tree := a.loaded(mode)
		if tree.Reviews["orders-db/etl"] != nil || !strings.Contains(tree.Problems.Error(), "no approval rule matches this AccessReview") {
			t.Error(tree.Problems)
		}
	}
}

// TestReportApprovals: on a pull request what lacks approvals is pending, and
// still loads so that its examples can run.
func TestReportApprovals(t *testing.T) {
	a := newAccess(t)
	a.sign(reviewPath, "user:dan")
	a.sign(reviews.ConfigPath, "user:alice")
	a.sign("policies/freeze.rego")
	tree := a.loaded(report)
	if len(tree.Problems) > 0 || tree.Reviews["orders-db/etl"] == nil {
		t.Fatal(tree.Problems)
	}
	want := []reviews.Pending{
		{Path: "policies/freeze.rego", Kind: reviews.KindPolicy, Needs: []reviews.Need{{Rule: "approvals[0]", Threshold: 1, Groups: []string{"dba"}, Have: []string{}, Eligible: []string{"user:bob", "user:carol"}}}},
		{Path: reviewPath, Kind: reviews.KindReview, Needs: []reviews.Need{{Rule: "approvals[0]", Threshold: 1, Groups: []string{"dba"}, Have: []string{}, Eligible: []string{"user:bob", "user:carol"}}}},
		{Path: reviews.ConfigPath, Kind: reviews.KindConfig, Needs: []reviews.Need{{Rule: "threshold", Threshold: 2, Groups: []string{"root"}, Have: []string{"user:alice"}, Eligible: []string{"user:bob"}}}},
	}
	for i, p := range want {
		want[i].SHA256 = digestOf(a.read(p.Path))
	}
	if !reflect.DeepEqual(tree.Pending, want) {
		t.Errorf("got  %+v\nwant %+v", tree.Pending, want)
	}
}

// TestKeys: a key of the trust root or of principals/ may be used while it is valid.
func TestKeys(t *testing.T) {
	a := newAccess(t)
	path := "principals/agent_etl.yaml"
	a.replace(path, "keys: [", fmt.Sprintf("keys: [{key: %q, notAfter: \"2027-01-01T00:00:00Z\"}, ", a.key("user:mallory")))
	a.sign(path, "user:bob")
	tree := a.loaded()
	if keys := tree.Keys("agent:etl"); len(keys) != 1 || keys[0].Key != a.key("agent:etl") {
		t.Errorf("agent:etl has %v", keys)
	}
	if keys := tree.Keys("user:bob"); len(keys) != 1 || keys[0].Key != a.key("user:bob") {
		t.Errorf("user:bob has %v", keys)
	}
	if keys := tree.Keys("user:mallory"); keys != nil {
		t.Errorf("user:mallory has %v", keys)
	}
	a.root(fmt.Sprintf("  revoked: [{fingerprint: %q, reason: x}]\n", reviews.Key{Key: a.key("agent:etl")}.Fingerprint()))
	if keys := a.loaded().Keys("agent:etl"); keys != nil {
		t.Errorf("a revoked key may be used: %v", keys)
	}
	names := tree.PrincipalNames()
	if !reflect.DeepEqual(names, []string{"agent:etl", "user:alice", "user:bob", "user:carol", "user:dan"}) {
		t.Error(names)
	}
	if tree.Owner("agent:etl") != "user:alice" || tree.Owner("user:bob") != "" {
		t.Error("owners")
	}
}

// TestKeysOfOthers: a principal cannot take a key, or a name, that the trust root or
// another principal has.
func TestKeysOfOthers(t *testing.T) {
	t.Run("key of the trust root", func(t *testing.T) {
		a := newAccess(t)
		a.principal("agent:thief", "user:alice", "user:bob")
		a.sign("principals/agent_thief.yaml", "user:carol")
		tree := a.loaded()
		if tree.Principals["agent:thief"] != nil || !strings.Contains(tree.Problems.Error(), "keys[0] is already a key of user:bob") {
			t.Error(tree.Problems)
		}
	})
	t.Run("key of another", func(t *testing.T) {
		a := newAccess(t)
		a.principal("agent:thief", "user:alice", "agent:etl")
		tree := a.loaded()
		if tree.Principals["agent:thief"] != nil || tree.Principals["agent:etl"] != nil || !strings.Contains(tree.Problems.Error(), "shares a key with agent:etl") {
			t.Error(tree.Problems)
		}
	})
	t.Run("name of the trust root", func(t *testing.T) {
		a := newAccess(t)
		a.principal("user:bob", "user:alice", "user:mallory")
		a.sign("principals/user_bob.yaml", "user:carol")
		tree := a.loaded()
		if len(tree.Keys("user:bob")) != 1 || !strings.Contains(tree.Problems.Error(), "user:bob is a principal of the trust root") {
			t.Error(tree.Problems)
		}
	})
	t.Run("owner who is nobody", func(t *testing.T) {
		a := newAccess(t)
		a.principal("agent:etl", "user:zoe", "agent:etl")
		tree := a.loaded()
		if tree.Principals["agent:etl"] != nil || !strings.Contains(tree.Problems.Error(), "owner user:zoe is not a principal") {
			t.Error(tree.Problems)
		}
	})
}

// TestPolicies: a policy that is bad, missing or not approved stops everything.
func TestPolicies(t *testing.T) {
	path := "policies/freeze.rego"
	tests := []struct {
		name   string
		attack func(a *access)
		want   string
	}{
		{"unsigned", func(a *access) { a.sign(path) }, path + ": not approved"},
		{"edited", func(a *access) { a.replace(path, "package access", "package access # ") }, "not over these bytes"},
		{"without header", func(a *access) {
			a.write(path, "package access\n")
			a.sign(path, "user:bob")
		}, path + ":1:1: the first line has to bind"},
		{"header of another repository", func(a *access) {
			a.write(path, strings.Replace(a.read(path), repo, "00000000-0000-4000-8000-000000000000", 1))
			a.sign(path, "user:bob")
		}, path + ":1:1: the first line has to bind"},
		{"moved to another path", func(a *access) {
			a.write("policies/other.rego", a.read(path))
			a.sign("policies/other.rego", "user:bob")
		}, "policies/other.rego:1:1: the first line has to bind"},
		{"hidden line break", func(a *access) {
			a.write(path, a.read(path)+"# x\u2028deny contains 1 if true\n")
			a.sign(path, "user:bob")
		}, "a line break other than"},
		{"listed and removed", func(a *access) {
			a.config("  policies: [freeze.rego]\n")
			delete(a.files, path)
			a.files[path+".sigs/x"] = nil
			delete(a.files, path+".sigs/x")
		}, "policies/freeze.rego is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t)
			tt.attack(a)
			_, err := a.load()
			var ps reviews.Problems
			if !errors.As(err, &ps) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
		})
	}
	a := newAccess(t)
	tree := a.loaded()
	if p := tree.Policies[path]; p == nil || p.IsTest() || !reflect.DeepEqual(p.Source.Approvals, []string{"user:bob"}) {
		t.Errorf("the good one: %+v", p)
	}
	if !strings.Contains(tree.Notes.Error(), "a merge alone can delete this policy") {
		t.Error(tree.Notes)
	}
	a.config("  policies: [freeze.rego]\n")
	if tree := a.loaded(); len(tree.Notes) > 0 {
		t.Error(tree.Notes)
	}
}
