package ci

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/reviews"
)

// fieldSteps are valid changes that use each optional field of each kind, and the edges of what may be written.
func fieldSteps() []step {
	var steps []step
	add := func(name string, bend func(a *access)) { steps = append(steps, step{name, bend}) }

	review := reviewText("orders-db/new", 1, "")
	bare := review[:strings.Index(review, "  examples:")]
	anew := func(name, text string) {
		add("review: "+name, func(a *access) { a.put("reviews/orders-db/new.yaml", text, "user:bob") })
	}
	for i, limits := range []string{"{idle: 5m}", "{statement: 30s}", "{bytes: 1}", "{sessions: 1}", "{sessions: 9007199254740992}",
		"{session: 1h, idle: 10m, statement: 1m, rows: 10, bytes: 1000000, sessions: 2}", "{session: 720h}", "{statement: 1h1m1s}"} {
		anew(fmt.Sprintf("limits %d", i), bare+"  limits: "+limits+"\n")
	}
	for name, reason := range map[string]string{
		"umlauts": "Nächtlicher Export für die Buchhaltung", "cyrillic": "ночной экспорт", "japanese": "夜間エクスポート", "arabic": "تصدير ليلي", "greek": "νυχτερινή εξαγωγή",
		"hebrew": "יצוא לילי", "emoji": "export 🚚 at night", "combining marks": "cafe\u0301 orders", "typography": "“nightly” – export…", "devanagari": "रात का निर्यात",
		"a quote": "the owner's export", "an ampersand": "sales & returns", "markup": "<b>export</b> | `rm -rf` | $(x) | %0A", "a long one": strings.Repeat("because ", 500),
		"a mail address": "ask ops@example.com", "a digit first": "24h export", "like a number": "2027", "like a date": "2027-01-01", "like a boolean": "yes", "like null": "null",
		"a tilde": "~", "a percent": "%d of orders", "an at sign": "@alice asked", "a dash": "- export", "a question mark": "? export", "a hash": "#1 export",
	} {
		anew("reason with "+name, strings.Replace(bare, "{reason: nightly export}", fmt.Sprintf("{reason: %q}", reason), 1))
	}
	anew("reason folded", strings.Replace(bare, "{reason: nightly export}", "\n    reason: >-\n      nightly export\n      of all orders", 1))
	anew("reason over lines in quotes", strings.Replace(bare, "{reason: nightly export}", "\n    reason: \"nightly\n      export\"", 1))
	anew("no hold", strings.Replace(bare, "  hold:\n    - {verbs: [delete], on: [app.orders]}\n", "", 1))
	anew("only hold", strings.Replace(bare, "  allow:\n    - {verbs: [select], on: [app.orders, app.customers]}\n", "", 1))
	anew("twenty rules", strings.Replace(bare, "  hold:\n", strings.Repeat("    - {verbs: [insert], on: [app.orders], columns: [id]}\n", 20)+"  hold:\n", 1))
	anew("quoted keys", strings.Replace(strings.Replace(bare, "  sequence:", `  "sequence":`, 1), "  connection:", `  'connection':`, 1))
	anew("fields in another order", strings.Replace(strings.Replace(bare, "  sequence: 1\n", "", 1), "  connection: orders-db\n", "  connection: orders-db\n  sequence: 1\n", 1))
	anew("header in another order", strings.Replace(bare, "apiVersion: sallyport.dev/v1\nkind: AccessReview\n", "kind: AccessReview\napiVersion: sallyport.dev/v1\n", 1))
	anew("a list over lines", strings.Replace(bare, "[app.orders, app.customers]", "[\n      app.orders,\n      app.customers,\n    ]", 1))
	anew("comments everywhere", strings.ReplaceAll(bare, "\n", " # why\n"))
	anew("nearly as large as may be", bare+"# "+strings.Repeat("x", 64<<10-len(bare)-4)+"\n")
	anew("a year for years", strings.Replace(strings.Replace(bare, "2027-01-01T00:00:00Z", "2027-01-15T11:59:59Z", 1), "2027-03-01", "2027-04-14", 1))
	anew("a leap second's neighbour", strings.Replace(bare, "2027-03-01T00:00:00Z", "2027-02-28T23:59:59Z", 1))
	anew("sequence as large as may be", strings.Replace(bare, "sequence: 1", "sequence: 9007199254740991", 1))
	anew("another subject", strings.Replace(bare, "agent:etl", "agent:report", 1))
	anew("a person for herself", strings.Replace(bare, `"agent:etl"`, `"user:alice"`, 1))
	anew("asked for by another", strings.Replace(bare, `requester: "user:alice"`, `requester: "user:dan"`, 1))
	anew("three masks", bare+"  mask:\n    - {column: app.customers.name, with: first}\n    - {column: app.orders.status, with: \"null\"}\n    - {column: app.orders.customer, with: redact}\n")
	anew("an example of each kind", bare+reviewExamples)
	anew("an example over lines", bare+"  examples:\n    - run: |\n        select id\n        from app.orders\n      expect: allow\n")
	anew("an example with a comment", bare+"  examples:\n    - {run: \"select /* why */ id from app.orders -- end\", expect: allow}\n")
	add("review: the longest name", func(a *access) {
		name := strings.Repeat("n", 63)
		a.put("reviews/orders-db/"+name+".yaml", strings.Replace(bare, "orders-db/new", "orders-db/"+name, 1), "user:bob")
	})
	add("review: a name of digits and dashes", func(a *access) {
		a.put("reviews/orders-db/0-1-2.yaml", strings.Replace(bare, "orders-db/new", "orders-db/0-1-2", 1), "user:bob")
	})
	add("review: forty at once", func(a *access) {
		for i := range 40 {
			name := fmt.Sprintf("orders-db/many-%d", i)
			a.put("reviews/"+name+".yaml", strings.Replace(bare, "orders-db/new", name, 1), "user:bob")
		}
	})

	connection := func(name, from, to string) {
		add("connection: "+name, func(a *access) { a.edit(ordersPath, from, to, "user:carol") })
	}
	const target = "target: {host: orders-db.internal, database: orders, user: gateway}"
	for _, risk := range []string{"low", "medium"} {
		connection("risk "+risk, "risk: high", "risk: "+risk)
	}
	connection("no risk", "  risk: high\n", "")
	connection("a port", target, "target: {host: orders-db.internal, port: 6543, database: orders, user: gateway}")
	connection("an IPv6 address", target, `target: {host: "2001:db8::1", database: orders, user: gateway}`)
	connection("an IPv4 address", target, "target: {host: 192.0.2.7, database: orders, user: gateway}")
	connection("loopback without TLS", target, "target: {host: 127.0.0.1, database: orders, user: gateway, tls: disable}")
	connection("an authority of its own", target, "target: {host: orders-db.internal, database: orders, user: gateway, tls: verify-full, ca: /etc/sallyport/ca.pem}")
	connection("a role with a dash", target, `target: {host: orders-db.internal, database: "orders-2027", user: "gate-way"}`)
	connection("a credential in a file", "credential: env:ORDERS_PASSWORD", "credential: file:/etc/sallyport/orders")
	connection("a credential of a program", "credential: env:ORDERS_PASSWORD", `credential: "exec:/usr/bin/vault read orders"`)
	connection("functions", "  risk: high\n", "  risk: high\n  functions: [app.order_total, public.x]\n")
	connection("a bound on age", "  risk: high\n", "  risk: high\n  review: {maxAge: 720h}\n")
	connection("another mask", "with: last4", "with: redact")
	connection("masks in another order", "    - {column: app.customers.email, with: email}\n    - {column: app.customers.ssn, with: last4}\n", "    - {column: app.customers.ssn, with: last4}\n    - {column: app.customers.email, with: email}\n")
	add("connection: the longest name", func(a *access) {
		name := strings.Repeat("c", 63)
		a.put("connections/"+name+".yaml", connectionText(name, ""), "user:bob")
		a.write("connections/"+name+".catalog.json", a.read("connections/orders-db.catalog.json"))
	})

	principal := func(name, path, text string) {
		add("principal: "+name, func(a *access) { a.put(path, text, "user:bob") })
	}
	two := func(name, windows string) string {
		return strings.Replace(principalText(name, "user:alice", name), "]\n", fmt.Sprintf(", {key: %q%s}]\n", keyOf(name+" two"), windows), 1)
	}
	principal("two keys", "principals/agent_two.yaml", two("agent:two", ""))
	principal("a key from tomorrow on", "principals/agent_two.yaml", two("agent:two", `, notBefore: "2027-01-16T00:00:00Z"`))
	principal("a key until tomorrow", "principals/agent_two.yaml", two("agent:two", `, notAfter: "2027-01-16T00:00:00Z"`))
	principal("a key with a window", "principals/agent_two.yaml", two("agent:two", `, notBefore: "2027-01-01T00:00:00Z", notAfter: "2027-06-01T00:00:00Z"`))
	principal("a key with a comment", "principals/agent_two.yaml", strings.Replace(principalText("agent:two", "user:alice", "agent:two"), keyOf("agent:two"), keyOf("agent:two")+" etl@host-7", 1))
	principal("a program", "principals/program_x.yaml", principalText("program:x", "user:alice", "program:x"))
	principal("dots and dashes", "principals/agent_a.b-c.d.yaml", principalText("agent:a.b-c.d", "user:alice", "agent:a.b-c.d"))
	principal("the longest name", "principals/agent_"+strings.Repeat("a", 63)+".yaml", principalText("agent:"+strings.Repeat("a", 63), "user:alice", "long"))
	principal("an owner who is no member of the root", "principals/agent_two.yaml", principalText("agent:two", "user:mallory", "agent:two"))
	add("principal: rotated over a time in which both keys hold", func(a *access) {
		a.put(agentPath, strings.Replace(principalText("agent:etl", "user:alice", "agent:etl"), "]\n", fmt.Sprintf(", {key: %q}]\n", keyOf("agent:etl new")), 1), "user:carol")
	})
	add("principal: deleted with its reviews and added anew", func(a *access) {
		a.remove(agentPath)
		a.put(agentPath, "# anew\n"+principalText("agent:etl", "user:alice", "agent:etl anew"), "user:carol")
	})

	settings := func(name, from, to string) {
		add("settings: "+name, func(a *access) {
			text := configText("")
			if !strings.Contains(text, from) {
				a.t.Fatalf("no %q", from)
			}
			a.put(reviews.ConfigPath, strings.Replace(text, from, to, 1), "user:bob", "user:dan")
		})
	}
	more := func(name, lines string) {
		settings(name, "  policies: [guardrails.rego]\n", "  policies: [guardrails.rego]\n"+lines)
	}
	more("another branch", "  branch: release/2027\n")
	more("a forge", "  forge: {kind: github, repository: acme/access}\n")
	more("a forge of one's own", "  forge: {kind: gitea, url: \"https://git.example\", repository: acme/access}\n")
	more("an audit repository", "  audit: {repository: \"https://git.example/audit.git\", branch: gw}\n")
	more("an audit branch", "  audit: {branch: audit-2}\n")
	more("a longer lifetime", "  maxReviewLifetime: 4000h\n")
	more("a shorter freshness", "  freshness: {validFor: 1h}\n")
	settings("two gateways", `[{name: gw1, postgres: "gw.example:6432"}]`, `[{name: gw1, postgres: "[2001:db8::7]:6432"}]`)
	for name, rule := range map[string]string{
		"a rule for verbs": "{match: {verbs: [drop, truncate]}, mode: signature, threshold: 2, groups: [reviewers]}", "a rule for a risk": "{match: {risks: [low]}, mode: signature, threshold: 1, groups: [security]}",
		"a rule for paths": "{match: {paths: [\"reviews/other-*\"]}, mode: signature, threshold: 1, groups: [security]}", "a rule for unmasking": "{match: {unmask: true}, mode: signature, threshold: 1, groups: [security]}",
		"one of": "{match: {connections: [other-*]}, mode: signature, threshold: 1, groups: [reviewers], oneOf: [security]}", "automatic approval": "{match: {connections: [other-*]}, mode: signature, threshold: 1, groups: [reviewers], auto: true}",
		"approval in the forge": "{match: {connections: [other-*]}, mode: forge, threshold: 1, groups: [reviewers]}", "bots": "{match: {connections: [other-*]}, mode: forge, threshold: 1, groups: [reviewers], bots: true}",
	} {
		lines := "    - " + rule + "\n"
		if strings.Contains(rule, "mode: forge") {
			lines += "  forge: {kind: gitea, url: \"https://git.example\", repository: acme/access}\n"
		}
		settings(name, "  gateways:", lines+"  gateways:")
	}

	root := func(name string, change func(text string) string) {
		add("root: "+name, func(a *access) { a.put(reviews.RootPath, change(rootText(2, "")), "user:bob", "user:dan") })
	}
	with := func(more string) func(string) string { return func(text string) string { return text + more } }
	swap := func(from, to string) func(string) string {
		return func(text string) string {
			if !strings.Contains(text, from) {
				panic("no " + from)
			}
			return strings.Replace(text, from, to, 1)
		}
	}
	root("an attester", with(fmt.Sprintf("  attesters: [{key: %q}]\n", keyOf("attester"))))
	root("a delegation", with("  delegations: [{principals: \"agent:etl-*\", group: security}]\n"))
	root("a delegation with a threshold", with("  delegations: [{principals: \"workload:x*\", group: reviewers, threshold: 2}]\n"))
	root("a tombstone", with("  tombstones: [{sha256: "+strings.Repeat("ab", 32)+", reason: incident}]\n"))
	root("a second release key", swap("  release: [", fmt.Sprintf("  release: [{key: %q, notBefore: \"2027-02-01T00:00:00Z\"}, ", keyOf("release two"))))
	root("a second gateway", swap("  gateways: [", fmt.Sprintf("  gateways: [{name: gw2, key: %q}, ", keyOf("gateway two"))))
	root("a gateway with a certificate", swap("{name: gw1, ", "{name: gw1, tls: \"sha256:"+strings.Repeat("0a", 32)+"\", "))
	root("accounts on forges", swap("{name: \"user:bob\", ", "{name: \"user:bob\", forge: {github: 1234567, gitea: 3}, "))
	root("a person more", swap("  groups:", fmt.Sprintf("    - {name: \"user:zoe\", keys: [{key: %q}]}\n  groups:", keyOf("user:zoe"))))
	root("a person with two keys", swap(fmt.Sprintf("{key: %q}]}\n    - {name: \"user:carol\"", keyOf("user:bob")), fmt.Sprintf("{key: %q}, {key: %q, notAfter: \"2028-01-01T00:00:00Z\"}]}\n    - {name: \"user:carol\"", keyOf("user:bob"), keyOf("user:bob two"))))
	root("a group more", swap("security: [", "on-call: [\"user:carol\"], security: ["))
	add("root: a higher threshold", func(a *access) {
		a.put(reviews.RootPath, swap("threshold: 2", "threshold: 3")(rootText(2, "")), "user:bob", "user:carol", "user:dan")
	})
	root("a key revoked from a moment on", swap("  revoked: [", fmt.Sprintf("  revoked: [{fingerprint: %q, mode: after, at: \"2027-01-15T00:00:00Z\", reason: left}, ", ssh.FingerprintSHA256(signerOf("user:eve").PublicKey()))))
	root("a person revoked", swap("  revoked: [", "  revoked: [{principal: \"user:eve\", reason: left}, "))
	return steps
}
