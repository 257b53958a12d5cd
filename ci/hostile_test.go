package ci

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sallyport-dev/sallyport/reviews"
)

// attack is one change that must not get through, and the rule that has to say so.
type attack struct {
	group, name, rule string
	bend              func(a *access)
}

// hostileAttacks are grouped by what the attacker hopes for. Everything but the
// attack itself is in order: documents are signed by who may, and sequences go up.
func hostileAttacks() []attack {
	return slices.Concat(yamlAttacks(), identityAttacks(), approvalAttacks(), sequenceAttacks(), mixedAttacks(),
		trustAttacks(), configAttacks(), policyAttacks(), maskAttacks(), treeAttacks(), meaningAttacks(), principalAttacks(), keyAttacks(), sidecarAttacks(), fieldAttacks())
}

// Two readers of one file must never see two things.
func yamlAttacks() []attack {
	var list []attack
	text := reviewText("orders-db/etl", 5, "")
	add := func(name, hostile string) {
		list = append(list, attack{"yaml", name, RuleDocument, func(a *access) { a.put(etlPath, hostile, "user:bob") }})
	}
	edit := func(name, from, to string) { add(name, strings.Replace(text, from, to, 1)) }
	edit("duplicate key", "  hold:\n", "  allow:\n    - {verbs: [drop], on: [app.*]}\n  hold:\n")
	edit("duplicate spec", "spec:\n", "spec:\n  sequence: 5\nspec:\n")
	edit("duplicate key in flow", "{verbs: [select],", "{verbs: [drop], verbs: [select],")
	edit("duplicate key in quotes", "  hold:\n", "  \"allow\":\n    - {verbs: [drop], on: [app.*]}\n  hold:\n")
	edit("duplicate key escaped", "  hold:\n", "  \"al\\u006cow\":\n    - {verbs: [drop], on: [app.*]}\n  hold:\n")
	add("second document", text+"---\n"+strings.Replace(text, "select", "drop", 1))
	add("document before", "---\n"+text+"---\n"+text)
	add("end of document", text+"...\n")
	add("directive", "%YAML 1.1\n---\n"+text)
	add("byte order mark", "\ufeff"+text)
	add("carriage returns", strings.ReplaceAll(text, "\n", "\r\n"))
	edit("lone carriage return", "nightly export", "nightly\r export")
	edit("next line", "nightly export}", "nightly export}\u0085  x: 1")
	edit("line separator", "nightly export}", "nightly export}\u2028  x: 1")
	edit("paragraph separator", "nightly export}", "nightly export}\u2029  x: 1")
	edit("right to left", "nightly", "\u202enightly")
	edit("isolate", "nightly", "\u2066nightly")
	edit("zero width", "agent:etl", "agent:\u200betl")
	edit("soft hyphen", "nightly", "night\u00adly")
	edit("tag characters", "nightly", "nightly\U000e0041")
	edit("NUL", "nightly", "night\x00ly")
	edit("escape sequence", "nightly", "\x1b[2Jnightly")
	edit("invalid UTF-8", "nightly", "\xff\xfe")
	edit("overlong UTF-8", "nightly", "\xc0\xaf")
	edit("tab indentation", "  hold:\n", "\thold:\n")
	edit("anchor", "verbs: [select]", "verbs: &v [select]")
	edit("alias", "  hold:\n    - {verbs: [delete], on: [app.orders]}", "  hold:\n    - &r {verbs: [delete], on: [app.orders]}\n    - *r")
	edit("merge key", "verbs: [delete], on", "<<: {verbs: [drop]}, on")
	edit("tag", "sequence: 5", "sequence: !!int \"5\"")
	edit("local tag", "nightly", "!x nightly")
	edit("bare tag", "connection: orders-db", "connection: ! orders-db")
	edit("boolean word", "nightly export", "no")
	edit("null", "connection: orders-db", "connection: ~")
	edit("float", "sequence: 5", "sequence: 5.0")
	edit("exponent", "sequence: 5", "sequence: 5e0")
	edit("octal", "sequence: 5", "sequence: 0o5")
	edit("hexadecimal", "sequence: 5", "sequence: 0x5")
	edit("underscore", "sequence: 5", "sequence: 5_0")
	edit("sexagesimal", "sequence: 5", "sequence: 1:30")
	edit("number of 23 digits", "sequence: 5", "sequence: 55555555555555555555555")
	edit("plus sign", "sequence: 5", "sequence: +5")
	edit("date without quotes", `"2027-01-01T00:00:00Z"`, "2027-01-01")
	edit("local time", "2027-03-01T00:00:00Z", "2027-03-01T00:00:00+02:00")
	edit("leap day that is none", "2027-03-01", "2027-02-29")
	edit("unknown field", "  hold:\n", "  permit: all\n  hold:\n")
	edit("field in capitals", "  hold:\n", "  Allow: []\n  hold:\n")
	edit("field with a homoglyph", "  hold:\n", "  \u0430llow: []\n  hold:\n")
	edit("planned field", "  hold:\n", "  deny: []\n  hold:\n")
	edit("list for a string", "connection: orders-db", "connection: [orders-db]")
	edit("string for a list", "verbs: [delete]", "verbs: delete")
	edit("mapping for a list", "  examples:\n", "  examples: {}\n  x:\n")
	edit("deep nesting", "nightly export", strings.Repeat("[", 400)+strings.Repeat("]", 400))
	add("too large", text+"#"+strings.Repeat(" x", 40<<10)+"\n")
	add("empty", "")
	add("only a comment", "# nothing\n")
	add("a list", "- 1\n")
	add("JSON with a comment", `{"apiVersion": "sallyport.dev/v1" /* x */}`)
	add("not YAML", "spec: [\n")
	add("half a file", text[:len(text)/2])
	return list
}

// Signed bytes are worth nothing elsewhere.
func identityAttacks() []attack {
	var list []attack
	add := func(name string, bend func(a *access)) {
		list = append(list, attack{"identity", name, RuleDocument, bend})
	}
	edit := func(name, from, to string) {
		add(name, func(a *access) {
			a.put(etlPath, strings.Replace(reviewText("orders-db/etl", 5, ""), from, to, 1), "user:bob")
		})
	}
	edit("another repository", repoID, "6f0c2f5e-9999-4222-8333-444455556666")
	edit("another name", `"orders-db/etl"`, `"orders-db/etl2"`)
	edit("another connection in the name", `"orders-db/etl"`, `"prod-db/etl"`)
	edit("another connection in spec", "connection: orders-db", "connection: prod-db")
	edit("another kind", "kind: AccessReview", "kind: Connection")
	edit("another version", "sallyport.dev/v1", "sallyport.dev/v2")
	edit("no repository", "repo: "+repoID+", ", "")
	edit("name that leaves the folder", `"orders-db/etl"`, `"../trust/root"`)
	add("copied to another name", func(a *access) { a.copyDocument(etlPath, "reviews/orders-db/etl-copy.yaml") })
	add("copied to another connection", func(a *access) { a.copyDocument(etlPath, "reviews/prod-db/copy.yaml") })
	add("principal copied", func(a *access) { a.copyDocument(agentPath, "principals/agent_other.yaml") })
	add("connection copied", func(a *access) { a.copyDocument(ordersPath, "connections/other-db.yaml") })
	add("policy copied", func(a *access) { a.copyDocument(guardPath, "policies/other.rego") })
	return list
}

// copyDocument copies a document with its signatures, as a replay would.
func (a *access) copyDocument(from, to string) {
	for name, f := range maps.Clone(a.files) {
		if rest, ok := strings.CutPrefix(name, from); ok {
			a.files[to+rest] = f
		}
	}
}

// Approvals are people's words for exact bytes.
func approvalAttacks() []attack {
	var list []attack
	add := func(name string, bend func(a *access)) {
		list = append(list, attack{"approval", name, RuleApproval, bend})
	}
	text := reviewText("orders-db/etl", 5, "")
	by := func(name string, who ...string) { add(name, func(a *access) { a.put(etlPath, text, who...) }) }
	by("unsigned")
	by("by the requester", "user:alice")
	by("by somebody without a group", "user:dan")
	by("by the subject", "agent:etl")
	by("by an expired key", "user:eve")
	by("by a revoked key", "user:mallory")
	by("by the release key", "release")
	by("by the gateway", "gateway")
	by("by a stranger", "user:nobody")
	by("by everybody who may not", "user:alice", "user:dan", "user:eve", "user:mallory", "agent:etl", "release", "gateway")
	add("over the old bytes", func(a *access) { a.write(etlPath, text) })
	add("one space more", func(a *access) { a.put(etlPath, text, "user:bob"); a.write(etlPath, text+" ") })
	add("under another's name", func(a *access) {
		a.put(etlPath, text)
		a.addSignature(etlPath, "user:bob", "user:alice", reviews.NamespaceReview, text)
	})
	add("in bob's file, by alice", func(a *access) {
		a.put(etlPath, text, "user:alice")
		alice := reviews.SidecarPath(etlPath, "user:alice", signerOf("user:alice").PublicKey())
		a.files[reviews.SidecarPath(etlPath, "user:bob", signerOf("user:bob").PublicKey())] = a.files[alice]
	})
	for _, ns := range []string{reviews.NamespaceConnection, reviews.NamespacePolicy, reviews.NamespaceToken, reviews.NamespaceGit, "file", "sallyport.review.v2"} {
		add("namespace "+ns, func(a *access) { a.put(etlPath, text); a.addSignature(etlPath, "user:bob", "user:bob", ns, text) })
	}
	add("of another document", func(a *access) {
		a.put(etlPath, text)
		a.addSignature(etlPath, "user:bob", "user:bob", reviews.NamespaceReview, a.read(reportPath))
	})
	sidecar := reviews.SidecarPath(etlPath, "user:bob", signerOf("user:bob").PublicKey())
	damage := func(name string, f func(string) string) {
		add("signature "+name, func(a *access) { a.put(etlPath, text, "user:bob"); a.write(sidecar, f(a.read(sidecar))) })
	}
	damage("cut off", func(s string) string { return s[:len(s)/2] })
	damage("empty", func(string) string { return "" })
	damage("with text before", func(s string) string { return "x\n" + s })
	damage("with text behind", func(s string) string { return s + "x\n" })
	damage("twice", func(s string) string { return s + s })
	damage("with one letter changed", func(s string) string {
		return s[:120] + map[bool]string{true: "B", false: "A"}[s[120] == 'A'] + s[121:]
	})
	damage("too large", func(s string) string { return s + strings.Repeat("\n", 9<<10) })
	add("signature that is a link", func(a *access) {
		a.put(etlPath, text, "user:bob")
		a.files[sidecar] = &fstest.MapFile{Data: []byte("../../../README.md"), Mode: fs.ModeSymlink | 0o777}
	})
	add("signature that is executable", func(a *access) { a.put(etlPath, text, "user:bob"); a.files[sidecar].Mode = 0o755 })
	add("folder of signatures that is a file", func(a *access) { a.put(etlPath, text); a.write(etlPath+".sigs", "x") })
	add("signature in a folder deeper", func(a *access) {
		a.put(etlPath, text, "user:bob")
		a.files[etlPath+".sigs/x/"+sidecar[len(etlPath+".sigs/"):]] = a.files[sidecar]
		delete(a.files, sidecar)
	})
	add("prod with one approval", func(a *access) { a.edit(prodPath, "sequence: 1", "sequence: 2", "user:bob") })
	add("prod with one person twice", func(a *access) {
		a.edit(prodPath, "sequence: 1", "sequence: 2", "user:bob")
		bob := reviews.SidecarPath(prodPath, "user:bob", signerOf("user:bob").PublicKey())
		a.files[strings.Replace(bob, "user_bob", "user_carol", 1)] = a.files[bob]
	})
	add("approvals taken away", func(a *access) { a.unsign(etlPath) })
	add("connection unsigned", func(a *access) { a.edit(ordersPath, "risk: high", "risk: low") })
	add("connection by the requester", func(a *access) { a.edit(ordersPath, "risk: high", "risk: low", "user:alice") })
	add("agent approved by its owner", func(a *access) { a.put(agentPath, principalText("agent:etl", "user:bob", "agent:x"), "user:bob") })
	add("agent approves itself", func(a *access) { a.put(agentPath, principalText("agent:etl", "user:alice", "agent:x"), "agent:x") })
	add("policy without security", func(a *access) { a.put(guardPath, guardText(guardRules+"# more\n"), "user:bob") })
	add("policy by security alone", func(a *access) { a.put(guardPath, guardText(guardRules+"# more\n"), "user:dan") })
	add("settings by one of two", func(a *access) { a.put(reviews.ConfigPath, configText("  maxReviewLifetime: 9000h\n"), "user:bob") })
	add("settings by those who may not", func(a *access) {
		a.put(reviews.ConfigPath, configText("  maxReviewLifetime: 9000h\n"), "user:alice", "user:mallory", "user:eve")
	})
	return list
}

// No signed version ever comes back to life.
func sequenceAttacks() []attack {
	var list []attack
	add := func(name string, bend func(a *access)) {
		list = append(list, attack{"sequence", name, RuleSequence, bend})
	}
	wider := strings.NewReplacer("verbs: [select]", "verbs: [select, update]").Replace
	for _, n := range []int{1, 2, 3, 4} {
		add(fmt.Sprintf("%d again", n), func(a *access) { a.put(etlPath, wider(reviewText("orders-db/etl", n, "")), "user:bob") })
	}
	add("a comment, same sequence", func(a *access) { a.put(etlPath, "# x\n"+a.read(etlPath), "user:bob") })
	gone := strings.Replace(reviewText("orders-db/gone", 1, ""), `"agent:gone"`, `"agent:etl"`, 1)
	for _, n := range []int{1, 6, 7} {
		add(fmt.Sprintf("deleted name comes back with %d", n), func(a *access) {
			a.put("reviews/orders-db/gone.yaml", strings.Replace(gone, "sequence: 1", fmt.Sprintf("sequence: %d", n), 1), "user:bob")
		})
	}
	add("lower than history, higher than the base", func(a *access) {
		a.put(reportPath, reviewText("orders-db/report", 2, ""), "user:bob") // it has had 3
	})
	return list
}

// Nobody is judged by rules that come along.
func mixedAttacks() []attack {
	var list []attack
	add := func(name string, bend func(a *access)) { list = append(list, attack{"mixed", name, RuleMixed, bend}) }
	review := func(a *access, by ...string) { a.put(etlPath, reviewText("orders-db/etl", 5, ""), by...) }
	add("settings and review", func(a *access) {
		a.put(reviews.ConfigPath, configText("  maxReviewLifetime: 9000h\n"), "user:bob", "user:carol")
		review(a, "user:bob")
	})
	add("settings that let dan approve, and his approval", func(a *access) {
		a.put(reviews.ConfigPath, strings.Replace(configText(""), "groups: [reviewers]", "groups: [reviewers, security]", 1), "user:bob", "user:carol")
		review(a, "user:dan")
	})
	add("root and review", func(a *access) {
		a.put(reviews.RootPath, rootText(2, ""), "user:bob", "user:carol")
		review(a, "user:bob")
	})
	add("root that lets alice approve, and her approval", func(a *access) {
		a.put(reviews.RootPath, strings.Replace(rootText(2, ""), `reviewers: ["user:bob"`, `reviewers: ["user:alice", "user:bob"`, 1), "user:bob", "user:carol")
		review(a, "user:alice")
	})
	add("policy and review", func(a *access) {
		a.put(guardPath, guardText(guardRules+"# x\n"), "user:dan", "user:bob")
		review(a, "user:bob")
	})
	add("policy and connection", func(a *access) {
		a.put(guardPath, guardText(guardRules+"# x\n"), "user:dan", "user:bob")
		a.edit(ordersPath, "risk: high", "risk: low", "user:bob")
	})
	add("policy and principal", func(a *access) {
		a.put(guardPath, guardText(guardRules+"# x\n"), "user:dan", "user:bob")
		a.put(agentPath, principalText("agent:etl", "user:alice", "agent:y"), "user:bob")
	})
	add("policy test and review", func(a *access) {
		a.put(guardTest, a.read(guardTest)+"# x\n", "user:dan", "user:bob")
		review(a, "user:bob")
	})
	add("signature of settings and review", func(a *access) { a.sign(reviews.ConfigPath, "user:bob", "user:dan"); review(a, "user:bob") })
	add("policy and signature of a review", func(a *access) {
		a.put(guardPath, guardText(guardRules+"# x\n"), "user:dan", "user:bob")
		a.sign(etlPath, "user:bob", "user:carol")
	})
	return list
}

func trustAttacks() []attack {
	var list []attack
	add := func(name, rule, text string, by ...string) {
		list = append(list, attack{"trust", name, rule, func(a *access) { a.put(reviews.RootPath, text, by...) }})
	}
	next := rootText(2, "")
	edit := func(from, to string) string { return strings.Replace(next, from, to, 1) }
	add("same version", RuleTrust, rootText(1, "# x\n"), "user:bob", "user:carol")
	add("version skipped", RuleTrust, rootText(3, ""), "user:bob", "user:carol")
	add("another repository", RuleTrust, edit(repoID, "6f0c2f5e-9999-4222-8333-444455556666"), "user:bob", "user:carol")
	add("revocation dropped", RuleTrust, next[:strings.Index(next, "  revoked:")], "user:bob", "user:carol")
	add("revocation weakened", RuleTrust, edit("reason: laptop lost", `mode: after, at: "2027-06-01T00:00:00Z", reason: laptop lost`), "user:bob", "user:carol")
	add("unsigned", RuleApproval, next)
	add("one signature", RuleApproval, next, "user:bob")
	add("signed by alice and bob", RuleApproval, next, "user:alice", "user:bob")
	add("threshold lowered, one signature", RuleApproval, edit("threshold: 2", "threshold: 1"), "user:bob")
	add("group root replaced, signed by the new ones", RuleApproval,
		edit(`root: ["user:bob", "user:carol", "user:dan"]`, `root: ["user:alice", "user:mallory"]`), "user:alice", "user:mallory")
	add("bob's key replaced, signed with the new one", RuleApproval, edit(keyOf("user:bob"), keyOf("user:bob-2")), "user:bob-2", "user:carol")
	add("version zero", RuleDocument, edit("version: 2", "version: 0"), "user:bob", "user:carol")
	add("threshold above the members", RuleDocument, edit("threshold: 2", "threshold: 4"), "user:bob", "user:carol")
	add("threshold zero", RuleDocument, edit("threshold: 2", "threshold: 0"), "user:bob", "user:carol")
	add("no group root", RuleDocument, edit("root: [", "ruut: ["), "user:bob", "user:carol")
	add("a key of two people", RuleDocument, edit(keyOf("user:alice"), keyOf("user:bob")), "user:bob", "user:carol")
	add("a group of strangers", RuleDocument, edit(`security: ["user:dan"]`, `security: ["user:nobody"]`), "user:bob", "user:carol")
	add("no release key", RuleDocument, edit("release: [{key: \""+keyOf("release")+"\"}]", "release: []"), "user:bob", "user:carol")
	list = append(list,
		attack{"trust", "removed", RuleDocument, func(a *access) { a.remove(reviews.RootPath) }},
		attack{"trust", "a link", RuleDocument, func(a *access) {
			a.files[reviews.RootPath] = &fstest.MapFile{Data: []byte("../README.md"), Mode: fs.ModeSymlink | 0o777}
		}},
		attack{"trust", "its signatures removed", RuleApproval, func(a *access) { a.unsign(reviews.RootPath) }},
	)
	return list
}

func configAttacks() []attack {
	var list []attack
	add := func(name, rule, text string) {
		list = append(list, attack{"settings", name, rule, func(a *access) { a.put(reviews.ConfigPath, text, "user:bob", "user:carol") }})
	}
	edit := func(from, to string) string { return strings.Replace(configText(""), from, to, 1) }
	add("no rules", RuleDocument, edit("  approvals:\n", "  approvals: []\n  x:\n"))
	add("unknown group", RuleDocument, edit("groups: [security]", "groups: [nobody]"))
	add("threshold zero", RuleDocument, edit("threshold: 2", "threshold: 0"))
	add("threshold nobody can meet", RuleDocument, edit("threshold: 2", "threshold: 9"))
	add("unknown mode", RuleDocument, edit("mode: signature", "mode: trust-me"))
	add("summaries on the reviewed branch", RuleDocument, configText("  audit: {branch: main}\n"))
	add("branch with a dash in front", RuleDocument, configText("  branch: --upload-pack=x\n"))
	add("a policy that is not there", RuleDocument, edit("[guardrails.rego]", "[guardrails.rego, more.rego]"))
	add("another repository", RuleDocument, edit(repoID, "6f0c2f5e-9999-4222-8333-444455556666"))
	list = append(list,
		attack{"settings", "removed", RuleDocument, func(a *access) { a.remove(reviews.ConfigPath) }},
		attack{"settings", "case that some file systems confuse", RuleDocument, func(a *access) { a.write("Sallyport.yaml", configText("")) }},
	)
	return list
}

func policyAttacks() []attack {
	var list []attack
	add := func(name, rule string, bend func(a *access)) { list = append(list, attack{"policy", name, rule, bend}) }
	signed := func(name, rule, rules string) {
		add(name, rule, func(a *access) { a.put(guardPath, guardText(rules), "user:dan", "user:bob") })
	}
	signed("sends requests", RulePolicy, guardRules+"deny contains \"x\" if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 1\n")
	signed("reads the environment", RulePolicy, guardRules+"deny contains \"x\" if opa.runtime().env.X\n")
	signed("reads the clock", RulePolicy, guardRules+"deny contains \"x\" if time.now_ns() > 1\n")
	signed("looks up names", RulePolicy, guardRules+"deny contains \"x\" if net.lookup_ip_addr(\"x\")\n")
	signed("deny that means nothing", RulePolicy, "deny := true\n")
	signed("default deny", RulePolicy, "default deny := {\"x\"}\n")
	signed("reads other data", RulePolicy, guardRules+"deny contains \"x\" if data.sallyport.secret\n")
	signed("syntax", RulePolicy, guardRules+"deny contains {\n")
	add("another package", RulePolicy, func(a *access) {
		a.put(guardPath, strings.Replace(guardText(guardRules), "package access", "package sallyport.judgement", 1), "user:dan", "user:bob")
	})
	add("no header", RuleDocument, func(a *access) { a.put(guardPath, "package access\n"+guardRules, "user:dan", "user:bob") })
	add("header of another repository", RuleDocument, func(a *access) {
		a.put(guardPath, strings.Replace(guardText(guardRules), repoID, "6f0c2f5e-9999-4222-8333-444455556666", 1), "user:dan", "user:bob")
	})
	add("gone, as a merge alone could do", RulePolicyRemoved, func(a *access) { a.remove(guardPath) })
	add("gone, and off the list without signatures", RuleApproval, func(a *access) {
		a.remove(guardPath)
		a.put(reviews.ConfigPath, strings.Replace(configText(""), "  policies: [guardrails.rego]\n", "", 1))
	})
	add("unsigned policy that allows", RuleApproval, func(a *access) { a.put(guardPath, guardText("allow := true\n")) })
	add("a test that fails", RulePolicyTest, func(a *access) {
		a.put(guardTest, strings.Replace(a.read(guardTest), "== 1", "== 2", 1), "user:dan", "user:bob")
	})
	add("a rule gone and its test kept", RulePolicyTest, func(a *access) { a.put(guardPath, guardText("# nothing\n"), "user:dan", "user:bob") })
	add("a test that is put off", RulePolicyTest, func(a *access) {
		a.put(guardTest, strings.Replace(a.read(guardTest), "test_drop", "todo_test_drop", 1), "user:dan", "user:bob")
	})
	add("in capitals", RuleDocument, func(a *access) { a.write("policies/Guardrails.rego", guardText(guardRules)) })
	add("in a folder", RuleDocument, func(a *access) { a.write("policies/more/x.rego", guardText(guardRules)) })
	add("executable", RuleDocument, func(a *access) {
		f := *a.files[guardPath]
		f.Mode = 0o755
		a.files[guardPath] = &f
	})
	return list
}

func maskAttacks() []attack {
	var list []attack
	add := func(name, rule string, bend func(a *access)) { list = append(list, attack{"mask", name, rule, bend}) }
	add("removed without approval", RuleApproval, func(a *access) { a.edit(ordersPath, "    - {column: app.customers.email, with: email}\n", "") })
	add("removed, against an approved example", RuleGolden, func(a *access) {
		a.edit(ordersPath, "  mask:\n    - {column: app.customers.email, with: email}\n    - {column: app.customers.ssn, with: last4}\n", "", "user:bob")
	})
	add("of a column that is not there", RuleMask, func(a *access) { a.edit(ordersPath, "app.customers.ssn", "app.customers.snn", "user:bob") })
	add("that does not exist", RuleDocument, func(a *access) { a.edit(ordersPath, "with: last4", "with: last44", "user:bob") })
	add("twice", RuleDocument, func(a *access) { a.edit(ordersPath, "app.customers.ssn", "app.customers.email", "user:bob") })
	add("weakened by a review", RuleDocument, func(a *access) {
		a.put(etlPath, reviewText("orders-db/etl", 5, "  mask: [{column: app.customers.email, with: first}]\n"), "user:bob")
	})
	add("of a review, of a column that is not there", RuleMask, func(a *access) {
		a.put(etlPath, reviewText("orders-db/etl", 5, "  mask: [{column: app.customers.nope, with: first}]\n"), "user:bob")
	})
	add("catalog gone", RuleMask, func(a *access) { delete(a.files, "connections/orders-db.catalog.json") })
	add("catalog that is none", RuleMask, func(a *access) { a.write("connections/orders-db.catalog.json", "{}") })
	add("catalog cut off", RuleMask, func(a *access) {
		a.write("connections/orders-db.catalog.json", a.read("connections/orders-db.catalog.json")[:2000])
	})
	add("catalog without the column", RuleMask, func(a *access) {
		a.write("connections/orders-db.catalog.json", strings.ReplaceAll(a.read("connections/orders-db.catalog.json"), `"ssn"`, `"tax"`))
	})
	return list
}

func treeAttacks() []attack {
	var list []attack
	add := func(name string, bend func(a *access)) { list = append(list, attack{"tree", name, RuleDocument, bend}) }
	text := reviewText("orders-db/etl", 5, "")
	at := func(name, path string) { add(name, func(a *access) { a.put(path, text, "user:bob") }) }
	add("review that is a link", func(a *access) {
		a.files[etlPath] = &fstest.MapFile{Data: []byte("report.yaml"), Mode: fs.ModeSymlink | 0o777}
	})
	add("executable review", func(a *access) { a.put(etlPath, text, "user:bob"); a.files[etlPath].Mode = 0o755 })
	add("submodule", func(a *access) { a.files["reviews/orders-db/etl2.yaml"] = &fstest.MapFile{Mode: fs.ModeIrregular} })
	add("device", func(a *access) { a.files["principals/agent_x.yaml"] = &fstest.MapFile{Mode: fs.ModeDevice} })
	add("review that is a folder", func(a *access) { a.remove(reportPath); a.write(reportPath+"/x", "x") })
	at("review at the top of reviews", "reviews/etl.yaml")
	at("review two folders deep", "reviews/orders-db/x/etl.yaml")
	at("review in capitals", "reviews/orders-db/ETL.yaml")
	at("review in a folder in capitals", "reviews/Orders-db/etl.yaml")
	at("review with another suffix", "reviews/orders-db/etl.yml")
	at("review with a space", "reviews/orders-db/etl x.yaml")
	at("review with an umlaut", "reviews/orders-db/ëtl.yaml")
	at("hidden review", "reviews/orders-db/.etl.yaml")
	at("review with a line break", "reviews/orders-db/etl\n::error::x.yaml")
	at("folder that some file systems confuse", "Reviews/orders-db/etl.yaml")
	add("another folder that some confuse", func(a *access) { a.write("TRUST/root.yaml", rootText(2, "")) })
	add("principal in a folder", func(a *access) {
		a.put("principals/x/agent_x.yaml", principalText("agent:x", "user:alice", "agent:x"), "user:bob")
	})
	add("principal with a colon", func(a *access) {
		a.put("principals/agent:x.yaml", principalText("agent:x", "user:alice", "agent:x"), "user:bob")
	})
	add("connection with a dot", func(a *access) { a.put("connections/a.b.yaml", connectionText("a.b", ""), "user:bob") })
	add("a stray file", func(a *access) { a.write("reviews/orders-db/notes.txt", "hello") })
	return list
}

func meaningAttacks() []attack {
	var list []attack
	add := func(name, rule, from, to string) {
		list = append(list, attack{"meaning", name, rule, func(a *access) {
			text := reviewText("orders-db/etl", 5, "")
			if !strings.Contains(text, from) {
				a.t.Fatalf("no %q", from)
			}
			a.put(etlPath, strings.Replace(text, from, to, 1), "user:bob")
		}})
	}
	add("everything", RuleDocument, "on: [app.orders, app.customers]", `on: ["*"]`)
	add("every schema", RuleDocument, "on: [app.orders, app.customers]", `on: ["*.*"]`)
	add("a pattern", RuleDocument, "on: [app.orders, app.customers]", `on: ["app.o*"]`)
	add("a relation without schema", RuleDocument, "on: [app.orders, app.customers]", "on: [orders]")
	add("an unknown verb", RuleDocument, "[delete]", "[destroy]")
	add("no verb", RuleDocument, "[delete]", "[]")
	add("columns of a delete", RuleDocument, "verbs: [delete], on: [app.orders]", "verbs: [delete], on: [app.orders], columns: [id]")
	add("columns that are empty", RuleDocument, "verbs: [delete], on: [app.orders]", "verbs: [update], on: [app.orders], columns: []")
	add("expired", RuleExpired, "2027-03-01T00:00:00Z", "2027-01-15T12:00:00Z")
	add("for ever", RuleDocument, "2027-03-01", "2099-03-01")
	add("backwards", RuleDocument, "2027-03-01", "2026-03-01")
	add("no rows", RuleDocument, "  justification:", "  limits: {rows: 0}\n  justification:")
	add("negative rows", RuleDocument, "  justification:", "  limits: {rows: -1}\n  justification:")
	add("a session without end", RuleDocument, "  justification:", "  limits: {session: 0s}\n  justification:")
	add("a stranger asks", RuleDocument, `requester: "user:alice"`, `requester: "user:nobody"`)
	add("a stranger uses", RuleDocument, `subject: "agent:etl"`, `subject: "agent:nobody"`)
	add("a group uses", RuleDocument, `subject: "agent:etl"`, `subject: "group:all"`)
	add("no reason", RuleDocument, "{reason: nightly export}", `{reason: " "}`)
	add("an example that does not hold", RuleExample, "expect: hold", "expect: allow")
	add("an example of a mask that is none", RuleExample, `"select id, status from app.orders", expect: allow`, `"select id, status from app.orders", expect: mask`)
	add("an example of a drop that is allowed", RuleExample, "expect: deny", "expect: allow")
	add("an unknown expectation", RuleDocument, "expect: deny", "expect: maybe")
	add("an empty example", RuleDocument, `"drop table app.orders"`, `""`)
	add("sequence zero", RuleDocument, "sequence: 5", "sequence: 0")
	add("negative sequence", RuleDocument, "sequence: 5", "sequence: -5")
	add("no sequence", RuleDocument, "  sequence: 5\n", "")
	return list
}

func principalAttacks() []attack {
	var list []attack
	add := func(name, rule, path, text string) {
		list = append(list, attack{"principal", name, rule, func(a *access) { a.put(path, text, "user:bob") }})
	}
	const x = "principals/agent_x.yaml"
	add("with a reviewer's key", RuleDocument, x, principalText("agent:x", "user:alice", "user:bob"))
	add("with another agent's key", RuleDocument, x, principalText("agent:x", "user:alice", "agent:report"))
	add("of the trust root", RuleDocument, "principals/user_alice.yaml", strings.Replace(principalText("user:alice", "user:dan", "user:alice-2"), "  owner: \"user:dan\"\n", "", 1))
	add("owned by a stranger", RuleDocument, x, principalText("agent:x", "user:nobody", "agent:x"))
	add("owned by an agent", RuleDocument, x, principalText("agent:x", "agent:etl", "agent:x"))
	add("owned by nobody", RuleDocument, x, strings.Replace(principalText("agent:x", "user:alice", "agent:x"), "  owner: \"user:alice\"\n", "", 1))
	add("without a key", RuleDocument, x, strings.Replace(principalText("agent:x", "user:alice", "agent:x"), "[{key: \""+keyOf("agent:x")+"\"}]", "[]", 1))
	add("with a key of another type", RuleDocument, x, strings.Replace(principalText("agent:x", "user:alice", "agent:x"), keyOf("agent:x"), "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=", 1))
	add("with a private key", RuleDocument, x, strings.Replace(principalText("agent:x", "user:alice", "agent:x"), keyOf("agent:x"), "-----BEGIN OPENSSH PRIVATE KEY-----", 1))
	add("named in capitals", RuleDocument, x, principalText("agent:X", "user:alice", "agent:x"))
	add("of a kind that does not exist", RuleDocument, "principals/robot_x.yaml", principalText("robot:x", "user:alice", "agent:x"))
	list = append(list, attack{"principal", "owner moved, so that an approval no longer counts", RuleCloses, func(a *access) {
		a.put(agentPath, principalText("agent:etl", "user:bob", "agent:etl"), "user:carol")
	}})
	return list
}

// hostileBase is the base of all attacks. Its history knows more than its tree.
func hostileBase(t testing.TB) *access {
	a := newAccess(t)
	a.used = map[string]int64{"reviews/orders-db/gone.yaml": 7, etlPath: 4, reportPath: 3}
	return a
}

// None is accepted, each is refused by the rule that is there for it, and everything
// that is said has a place and a next step. Without --require-approved a change that
// only lacks approvals is pending, which is not accepted either.
func TestHostileChangesAreRefused(t *testing.T) {
	base := hostileBase(t)
	attacks := hostileAttacks()
	if len(attacks) < 400 {
		t.Errorf("only %d attacks", len(attacks))
	}
	t.Logf("%d attacks", len(attacks))
	for _, x := range attacks {
		t.Run(x.group+"/"+x.name, func(t *testing.T) {
			t.Parallel()
			a := base.fork(t)
			x.bend(a)
			if r := a.compare(base, false); r.OK && len(r.Pending) == 0 {
				t.Error("accepted on a pull request")
			}
			r := a.compare(base, true)
			if r.OK {
				t.Fatal("accepted")
			}
			if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Rule == x.rule && f.Severity == Error }) {
				t.Errorf("not refused by rule %s: %v", x.rule, r.Findings)
			}
			for _, f := range r.Findings {
				t.Logf("%s: %s", f.Rule, f) // go test -v reads like what a requester sees
				if f.File == "" || f.Message == "" || f.Fix == "" {
					t.Errorf("without a place or a next step: %+v", f)
				}
			}
		})
	}
}
