package ci

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// step is one change of the base, with its name.
type step struct {
	name string
	bend func(a *access)
}

// validSteps are changes that nobody may refuse.
func validSteps() []step {
	var steps []step
	add := func(name string, bend func(a *access)) { steps = append(steps, step{name, bend}) }
	anew := func(name, text string, by ...string) {
		add(name, func(a *access) { a.put("reviews/orders-db/new.yaml", text, by...) })
	}
	base := reviewText("orders-db/new", 1, "")

	// New reviews, one for each verb, and in each shape a rule can have.
	bare := base[:strings.Index(base, "  examples:")]
	for _, verb := range []string{"insert", "update", "delete", "truncate", "lock", "create", "alter", "drop", "grant", "comment",
		"call", "analyze", "vacuum", "reindex", "refresh"} {
		anew("verb "+verb, strings.Replace(bare, "[select]", "[select, "+verb+"]", 1), "user:bob")
		anew("hold "+verb, strings.Replace(bare, "verbs: [delete]", "verbs: ["+verb+"]", 1), "user:carol")
	}
	for _, verb := range []string{"notify", "listen", "copy_file"} {
		anew("verb without object "+verb, strings.Replace(bare, "  hold:\n", "    - {verbs: ["+verb+"]}\n  hold:\n", 1), "user:bob")
	}
	for i, on := range []string{"app.*", "app.orders", "app._x1", `"app.orders", "app.customers"`} {
		anew(fmt.Sprintf("relation %d", i), strings.Replace(bare, "on: [app.orders, app.customers]", "on: ["+on+"]", 1), "user:bob")
	}
	for _, verb := range []string{"select", "insert", "update"} {
		anew("columns of "+verb, strings.Replace(bare, "verbs: [select], on: [app.orders, app.customers]", "verbs: ["+verb+"], on: [app.orders], columns: [id, status]", 1), "user:bob")
	}
	for i, limits := range []string{"{session: 30m}", "{session: 1h30m, rows: 1}", "{rows: 9007199254740992}", "{session: 8h, rows: 100000}"} {
		anew(fmt.Sprintf("limits %d", i), bare+"  limits: "+limits+"\n", "user:bob")
	}
	for i, mask := range []string{"app.customers.name, with: redact", "app.customers.name, with: first", "app.orders.status, with: redact", "app.orders.customer, with: \"null\""} {
		anew(fmt.Sprintf("mask %d", i), bare+"  mask: [{column: "+mask+"}]\n", "user:bob")
	}
	for i, example := range []string{
		`{run: "select count(*) from app.orders", expect: allow}`, `{run: "select 1", expect: allow}`,
		`{run: "select c.email from app.customers c join app.orders o on o.customer = c.id", expect: mask}`,
		`{run: "update app.orders set status = 'x'", expect: deny}`, `{run: "truncate app.orders", expect: deny}`,
		`{run: "this is no SQL", expect: deny}`, `{run: "select * from app.nothing", expect: deny}`,
		`{run: "with x as (delete from app.orders returning id) select * from x", expect: hold}`,
	} {
		anew(fmt.Sprintf("example %d", i), bare+"  examples:\n    - "+example+"\n", "user:bob")
	}
	// The same YAML in other clothes.
	for name, text := range map[string]string{
		"comment above": "# why\n" + base, "comment with umlauts": "# für die Nachtläufe – 夜\n" + base, "document mark": "---\n" + base,
		"editor line": "# yaml-language-server: $schema=../../.sallyport/schemas/AccessReview.json\n" + base, "trailing comment": base + "# end\n",
		"blank lines": strings.ReplaceAll(base, "  hold:", "\n\n  hold:"), "no last line break": strings.TrimSuffix(base, "\n"),
		"single quotes":         strings.Replace(base, `"user:alice"`, `'user:alice'`, 1),
		"block metadata":        strings.Replace(base, "metadata: {repo: "+repoID+", name: \"orders-db/new\"}", "metadata:\n  name: orders-db/new\n  repo: "+repoID, 1),
		"block rules":           strings.Replace(base, "    - {verbs: [delete], on: [app.orders]}", "    - verbs:\n        - delete\n      on:\n        - app.orders", 1),
		"reason in a block":     strings.Replace(base, "{reason: nightly export}", "\n    reason: |\n      nightly export\n      of all orders", 1),
		"reason with colons":    strings.Replace(base, "nightly export", `"see OPS-1: \"export\" # not a comment"`, 1),
		"reason like a command": strings.Replace(base, "nightly export", `"::error file=x::y"`, 1),
		"ticket":                strings.Replace(base, "{reason: nightly export}", "{ticket: OPS-12, reason: nightly export}", 1),
		"first sequence is 7":   strings.Replace(base, "sequence: 1", "sequence: 7", 1),
		"starts tomorrow":       strings.Replace(base, "2027-01-01", "2027-01-16", 1),
		"longest lifetime":      strings.Replace(strings.Replace(base, "2027-01-01", "2026-12-15", 1), "2027-03-01", "2027-03-15", 1),
		"ends soon":             strings.Replace(base, "2027-03-01T00:00:00Z", "2027-01-15T12:00:01Z", 1),
		"two approvals":         base,
	} {
		by := []string{"user:bob"}
		if name == "two approvals" {
			by = append(by, "user:carol")
		}
		anew(name, text, by...)
	}
	// Changes of a review that is merged.
	for _, n := range []int{5, 6, 40} {
		add(fmt.Sprintf("sequence %d", n), func(a *access) { a.edit(etlPath, "sequence: 4", fmt.Sprintf("sequence: %d", n), "user:bob") })
	}
	for name, change := range map[string][2]string{
		"narrowed": {", app.customers]", "]"}, "longer": {"2027-03-01", "2027-03-20"}, "shorter": {"2027-03-01", "2027-02-01"},
		"another reason": {"nightly export", "weekly export"}, "held instead": {"verbs: [delete]", "verbs: [delete, update]"},
	} {
		add("changed: "+name, func(a *access) {
			if name == "narrowed" {
				a.edit(etlPath, reviewExamples, "")
			}
			a.edit(etlPath, change[0], change[1])
			a.edit(etlPath, "sequence: 4", "sequence: 5", "user:carol")
		})
	}
	add("another approval", func(a *access) { a.sign(etlPath, "user:bob", "user:carol") })
	add("approver replaced", func(a *access) { a.sign(etlPath, "user:carol") })
	add("deleted", func(a *access) { a.remove(etlPath) })
	add("all reviews deleted", func(a *access) { a.remove(etlPath); a.remove(reportPath); a.remove(prodPath) })
	add("prod review with two approvals", func(a *access) { a.edit(prodPath, "sequence: 1", "sequence: 2", "user:bob", "user:carol") })
	add("renamed", func(a *access) {
		a.remove(reportPath)
		a.put("reviews/orders-db/reporting.yaml", strings.Replace(reviewText("orders-db/report", 1, ""), "orders-db/report", "orders-db/reporting", 1), "user:bob")
	})
	// Principals and connections.
	add("new agent", func(a *access) {
		a.put("principals/agent_new.yaml", principalText("agent:new", "user:alice", "agent:new"), "user:bob")
	})
	add("new agent with its first review", func(a *access) {
		a.put("principals/agent_new.yaml", principalText("agent:new", "user:alice", "agent:new"), "user:bob")
		a.put("reviews/orders-db/new.yaml", strings.Replace(base, "agent:etl", "agent:new", 1), "user:bob")
	})
	add("new workload", func(a *access) {
		a.put("principals/workload_x.yaml", principalText("workload:x", "user:dan", "workload:x"), "user:carol")
	})
	add("new person", func(a *access) {
		a.put("principals/user_zoe.yaml", strings.Replace(principalText("user:zoe", "user:alice", "user:zoe"), "  owner: \"user:alice\"\n", "", 1), "user:bob")
	})
	add("agent's key replaced", func(a *access) { a.put(agentPath, principalText("agent:etl", "user:alice", "agent:etl-2"), "user:bob") })
	add("agent deleted with its reviews", func(a *access) { a.remove(agentPath); a.remove(etlPath); a.remove(prodPath) })
	add("agent deleted at once, reviews later", func(a *access) { a.remove(agentPath) })
	add("connection deleted at once, reviews later", func(a *access) { a.remove(ordersPath) })
	add("connection deleted with its reviews", func(a *access) { a.remove(ordersPath); a.remove(etlPath); a.remove(reportPath) })
	add("new connection", func(a *access) {
		a.put("connections/new-db.yaml", connectionText("new-db", ""), "user:bob")
		a.write("connections/new-db.catalog.json", a.read("connections/orders-db.catalog.json"))
	})
	add("new connection with its first review", func(a *access) {
		a.put("connections/new-db.yaml", connectionText("new-db", ""), "user:bob")
		a.write("connections/new-db.catalog.json", a.read("connections/orders-db.catalog.json"))
		a.put("reviews/new-db/etl.yaml", reviewText("new-db/etl", 1, ""), "user:bob")
	})
	add("mask added", func(a *access) {
		a.edit(ordersPath, "  mask:\n", "  mask:\n    - {column: app.orders.status, with: redact}\n", "user:bob")
	})
	add("mask removed, and approved", func(a *access) {
		a.edit(ordersPath, "    - {column: app.customers.ssn, with: last4}\n", "", "user:bob")
	})
	add("risk lowered, and approved", func(a *access) {
		a.edit(ordersPath, "risk: high", "risk: low", "user:bob")
		a.edit(etlPath, "sequence: 4", "sequence: 5", "user:bob")
	})
	add("catalog written again", func(a *access) {
		a.write("connections/orders-db.catalog.json", a.read("connections/orders-db.catalog.json")+"\n")
	})
	// Trust, settings and policies, each in a change of its own.
	add("settings", func(a *access) {
		a.put("sallyport.yaml", configText("  freshness: {validFor: 12h}\n"), "user:bob", "user:dan")
	})
	add("stricter settings", func(a *access) {
		a.put("sallyport.yaml", strings.Replace(configText(""), "threshold: 1, groups: [reviewers]", "threshold: 2, groups: [reviewers]", 1), "user:carol", "user:dan")
	})
	add("next trust root", func(a *access) { a.put("trust/root.yaml", rootText(2, ""), "user:bob", "user:carol") })
	add("key revoked", func(a *access) {
		a.put("trust/root.yaml", strings.Replace(rootText(2, ""), "reason: laptop lost}", "reason: laptop lost}, {fingerprint: \"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", reason: left}", 1), "user:carol", "user:dan")
	})
	add("reviewer added", func(a *access) {
		a.put("trust/root.yaml", strings.Replace(rootText(2, ""), `reviewers: ["user:bob"`, `reviewers: ["user:dan", "user:bob"`, 1), "user:bob", "user:dan")
	})
	add("stricter policy", func(a *access) {
		a.put(guardPath, guardText(guardRules+"\ndeny contains \"no locks\" if {\n\tinput.command.effects[_].verb == \"lock\"\n}\n"), "user:dan", "user:bob")
	})
	add("freeze", func(a *access) {
		a.put(guardPath, guardText(guardRules+"\ndeny contains \"frozen\"\n"), "user:dan", "user:bob")
		a.remove(guardTest)
	})
	add("new policy", func(a *access) {
		a.put("policies/hours.rego", strings.Replace(guardText("hold contains \"ask\" if input.command.effects[_].verb == \"grant\"\n"), guardPath, "policies/hours.rego", 1), "user:dan", "user:carol")
	})
	add("policy removed, as the signed list says", func(a *access) {
		a.remove(guardPath)
		a.remove(guardTest)
		a.put("sallyport.yaml", strings.Replace(configText(""), "  policies: [guardrails.rego]\n", "", 1), "user:bob", "user:dan")
	})
	// What the access repo does not own.
	add("nothing", func(*access) {})
	add("README", func(a *access) { a.write("README.md", "# hello\n") })
	add("a symlink elsewhere", func(a *access) {
		a.files["docs/link"] = &fstest.MapFile{Data: []byte("../README.md"), Mode: 0o777 | fs.ModeSymlink}
	})
	add("a workflow", func(a *access) { a.write(".github/workflows/x.yml", "on: push\n") })
	return steps
}

// Nothing that is in order is refused, also when every approval is asked for.
func TestValidChangesPass(t *testing.T) {
	base := newAccess(t)
	if r, err := Check(t.Context(), base.files, base.options(true)); err != nil || len(r.Findings) > 0 {
		t.Fatalf("the base itself: %v, %v", r.Findings, err)
	}
	steps := slices.Concat(validSteps(), fieldSteps())
	if len(steps) < 200 {
		t.Errorf("only %d valid changes", len(steps))
	}
	t.Logf("%d valid changes", len(steps))
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			a := base.fork(t)
			s.bend(a)
			r := a.compare(base, true)
			if !r.OK || len(r.Pending) > 0 {
				t.Errorf("refused: %v\npending: %v", r.Findings, r.Pending)
			}
		})
	}
}
