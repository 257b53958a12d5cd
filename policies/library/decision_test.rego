# METADATA
# title: Tests of the library
# description: |
#   They run under `go test ./policies`, and with the stock tool: `opa test policies/library`.
package sallyport_test

import data.sallyport.decision

review := {"name": "db/r", "spec": {
	"subject": "agent:etl",
	"connection": "db",
	"allow": [
		{"verbs": ["select"], "on": ["app.orders", "crm.*"]},
		{"verbs": ["update", "insert"], "on": ["app.orders"], "columns": ["status", "note"]},
		{"verbs": ["delete"], "on": ["app.jobs"]},
		{"verbs": ["notify"]},
		{"verbs": ["update"], "on": ["app.prices"]},
		{"verbs": ["lock"], "on": ["app.locks"], "columns": ["id"]},
		{"verbs": ["select"], "on": ["app.both"]},
		{"verbs": ["select"], "on": ["app.both", "a.b.c"]},
	],
	"hold": [
		{"verbs": ["delete"], "on": ["app.orders", "app.jobs"]},
		{"verbs": ["update"], "on": ["app.prices"], "columns": ["amount"]},
		{"verbs": ["drop"], "on": ["ops.*"]},
	],
}}

connection := {"name": "db", "spec": {"protocol": "postgres"}}

request(effects) := {
	"now": "2026-11-24T12:00:00Z", "principal": "agent:etl", "connection": connection, "review": review,
	"command": {"protocol": "postgres", "statement": "…", "effects": effects},
}

effect(verb, object) := {"verb": verb, "object": object}

touching(verb, object, columns) := {"verb": verb, "object": object, "columns": columns}

# cases are effects, the verdict and the rule.
cases := {
	"listed": {"effects": [effect("select", "app.orders")], "is": ["allow", "allow[0]"]},
	"schema": {"effects": [effect("select", "crm.people")], "is": ["allow", "allow[0]"]},
	"nothing": {"effects": [], "is": ["allow", "no_effects"]},
	"first effect names the rule": {"effects": [touching("update", "app.orders", ["note"]), effect("select", "app.orders")], "is": ["allow", "allow[1]"]},
	"one of two": {"effects": [effect("select", "app.orders"), effect("drop", "app.orders")], "is": ["deny", "default"]},
	"other verb": {"effects": [effect("truncate", "app.orders")], "is": ["deny", "default"]},
	"other table": {"effects": [effect("select", "app.order")], "is": ["deny", "default"]},
	"other case": {"effects": [effect("select", "app.Orders")], "is": ["deny", "default"]},
	"schema with the same beginning": {"effects": [effect("select", "crm2.people")], "is": ["deny", "default"]},
	"glob as a name": {"effects": [effect("select", "crm.*")], "is": ["allow", "allow[0]"]},
	"dot in the schema": {"effects": [effect("select", "crm.x.people")], "is": ["deny", "default"]},
	"listed with two dots": {"effects": [effect("select", "a.b.c")], "is": ["deny", "default"]},
	"no schema": {"effects": [effect("select", "orders")], "is": ["deny", "default"]},
	"no object": {"effects": [{"verb": "select"}], "is": ["deny", "default"]},
	"empty object": {"effects": [effect("select", "")], "is": ["deny", "default"]},
	"columns listed": {"effects": [touching("update", "app.orders", ["status"])], "is": ["allow", "allow[1]"]},
	"columns of one rule": {"effects": [touching("update", "app.orders", ["status", "note"])], "is": ["allow", "allow[1]"]},
	"column not listed": {"effects": [touching("update", "app.orders", ["status", "total"])], "is": ["deny", "default"]},
	"columns unknown": {"effects": [effect("update", "app.orders")], "is": ["deny", "default"]},
	"columns empty": {"effects": [touching("update", "app.orders", [])], "is": ["deny", "default"]},
	"allowed by two rules": {"effects": [effect("select", "app.both")], "is": ["allow", "allow[6]"]},
	"held rule by schema": {"effects": [effect("drop", "ops.jobs")], "is": ["hold", "hold[2]"]},
	"first held rule names it": {"effects": [effect("drop", "ops.jobs"), effect("delete", "app.orders")], "is": ["hold", "hold[2]"]},
	"columns where none are asked": {"effects": [touching("select", "app.orders", ["id"])], "is": ["allow", "allow[0]"]},
	"held": {"effects": [effect("delete", "app.orders")], "is": ["hold", "hold[0]"]},
	"held beside an allow": {"effects": [effect("delete", "app.jobs")], "is": ["hold", "hold[0]"]},
	"held, and another denied": {"effects": [effect("delete", "app.orders"), effect("drop", "app.x")], "is": ["deny", "default"]},
	"held and allowed": {"effects": [effect("select", "app.orders"), effect("delete", "app.orders")], "is": ["hold", "hold[0]"]},
	"held column": {"effects": [touching("update", "app.prices", ["amount"])], "is": ["hold", "hold[1]"]},
	"held column among others": {"effects": [touching("update", "app.prices", ["amount", "note"])], "is": ["hold", "hold[1]"]},
	"held when columns are unknown": {"effects": [effect("update", "app.prices")], "is": ["hold", "hold[1]"]},
	"other column than the held one": {"effects": [touching("update", "app.prices", ["note"])], "is": ["allow", "allow[4]"]},
	"lock by update": {"effects": [effect("lock", "app.prices")], "is": ["allow", "allow[4]"]},
	"lock by delete": {"effects": [effect("lock", "app.jobs")], "is": ["allow", "allow[2]"]},
	"lock granted by a hold only": {"effects": [effect("lock", "app.orders")], "is": ["hold", "hold[0]"]},
	"lock by select": {"effects": [effect("lock", "crm.people")], "is": ["deny", "default"]},
	"lock under columns": {"effects": [effect("lock", "app.locks")], "is": ["deny", "default"]},
	"notify": {"effects": [{"verb": "notify"}], "is": ["allow", "allow[3]"]},
	"notify with an object": {"effects": [effect("notify", "app.orders")], "is": ["deny", "default"]},
	"listen": {"effects": [{"verb": "listen"}], "is": ["deny", "default"]},
	"copy_file": {"effects": [{"verb": "copy_file"}], "is": ["deny", "default"]},
	"own table": {"effects": [effect("drop", "pg_temp.t")], "is": ["allow", "allow[0]"]},
	"own table, a verb that leaves it": {"effects": [effect("call", "pg_temp.f")], "is": ["deny", "default"]},
	"schema that only begins like it": {"effects": [effect("drop", "pg_temp_3.t")], "is": ["deny", "default"]},
	"own table with a dot": {"effects": [effect("drop", "pg_temp.a.b")], "is": ["deny", "default"]},
}

# Tables are written with every: in a partial rule, a row that does not hold would
# only be missing. What a failed test printed last is the row.
test_cases if {
	every name, c in cases {
		print(name)
		d := decision with input as request(c.effects)
		[d.verdict, d.rule] == c.is
		d.reason != ""
	}
}

# What is missing from the input denies, whatever else it says.
test_missing_parts if {
	whole := request([effect("select", "app.orders")])
	every path in [
		"/principal", "/review", "/review/spec", "/review/spec/allow", "/review/spec/subject", "/review/spec/connection",
		"/connection", "/connection/name", "/connection/spec", "/connection/spec/protocol",
		"/command", "/command/effects", "/command/protocol",
	] {
		print(path)
		not permitted(json.remove(whole, [path]))
	}
}

test_no_input if {
	not permitted({})
}

malformed := {
	"no verb": [{"object": "app.orders"}],
	"verb is a list": [{"verb": ["select"], "object": "app.orders"}],
	"object is a list": [{"verb": "select", "object": ["app.orders"]}],
	"effect is text": ["select"],
	"effect is null": [null],
	"columns are text": [touching("update", "app.orders", "status")],
	"columns with something else among them": [touching("update", "app.orders", ["status", 1])],
	"text": "select",
	"empty object": {},
	"null": null,
	"number": 1,
	"boolean": true,
	"object of effects": {"a": effect("select", "app.orders")},
}

# Decide makes policy_error of an answer without a verdict.
test_malformed_effects if {
	every name, effects in malformed {
		print(name)
		not permitted(request(effects))
		not permitted(request([effects]))
	}
}

# permitted: the decision is there and is not a denial.
permitted(whole) if {
	d := decision with input as whole
	d.verdict != "deny"
}

test_refusal_comes_first if {
	base := request([effect("select", "app.orders")])
	refused := object.union(base, {"command": {"refusal": {"rule": "unsupported_statement", "reason": "no DO"}}})
	d := decision with input as refused with data.access.deny as {"no"}
	d == {"verdict": "deny", "rule": "unsupported_statement", "reason": "no DO"}
}

test_refusal_without_words_denies if {
	base := request([effect("select", "app.orders")])
	not permitted(object.union(base, {"command": {"refusal": {}}}))
}

test_review_of_somebody_else if {
	every change in [{"principal": "agent:other"}, {"connection": {"name": "db2"}}, {"command": {"protocol": "ssh"}}] {
		print(change)
		d := decision with input as object.union(request([effect("select", "app.orders")]), change)
		[d.verdict, d.rule] == ["deny", "review_mismatch"]
		contains(d.reason, "review db/r is for agent:etl")
	}
}

test_owner_deny_beats_allow if {
	d := decision with input as request([effect("select", "app.orders")]) with data.access.deny as {"b", "a"}
	d == {"verdict": "deny", "rule": "access.deny", "reason": "a; b"}
}

test_owner_deny_beats_default if {
	d := decision with input as request([effect("drop", "app.orders")]) with data.access.deny as {"a"}
	d.rule == "access.deny"
}

test_owner_hold if {
	d := decision with input as request([effect("select", "app.orders")]) with data.access.hold as {"ask"}
	d == {"verdict": "hold", "rule": "access.hold", "reason": "ask"}
}

test_owner_hold_grants_nothing if {
	d := decision with input as request([effect("drop", "app.orders")]) with data.access.hold as {"ask"}
	[d.verdict, d.rule] == ["deny", "default"]
}

test_review_hold_beats_owner_hold if {
	d := decision with input as request([effect("delete", "app.orders")]) with data.access.hold as {"ask"}
	[d.verdict, d.rule] == ["hold", "hold[0]"]
}

test_messages_that_are_none if {
	every message in ["", 1, true, false, null, ["x"], {"a": 1}] {
		print(message)
		denied := decision with input as request([effect("select", "app.orders")]) with data.access.deny as {message, "fine"}
		held := decision with input as request([effect("select", "app.orders")]) with data.access.hold as {message, "fine"}
		[denied.verdict, denied.rule, held.verdict, held.rule] == ["deny", "policy_error", "deny", "policy_error"]
	}
}

test_empty_columns_grant_nothing if {
	closed := {"spec": {"allow": [{"verbs": ["update"], "on": ["app.orders"], "columns": []}]}}
	d := decision with input as object.union(request([touching("update", "app.orders", ["id"])]), {"review": closed})
	d.verdict == "deny"
}

test_temporary_tables_need_a_select if {
	write_only := {"spec": {"allow": [{"verbs": ["insert"], "on": ["app.orders"]}]}}
	d := decision with input as object.union(request([effect("drop", "pg_temp.t")]), {"review": write_only})
	d.verdict == "deny"
}

test_reason_names_verb_object_and_review if {
	d := decision with input as request([effect("drop", "app.orders")])
	d.reason == "drop on app.orders is not in the allow rules of review db/r"
}

test_reason_counts_the_others if {
	d := decision with input as request([effect("drop", "app.a"), effect("drop", "app.b"), effect("drop", "app.c")])
	d.reason == "drop on app.a is not in the allow rules of review db/r (and 2 more)"
}

test_reason_of_a_verb_without_object if {
	d := decision with input as request([{"verb": "listen"}])
	d.reason == "listen is not in the allow rules of review db/r"
}

test_reason_names_columns if {
	d := decision with input as request([touching("update", "app.orders", ["total", "status"])])
	d.reason == "update on app.orders touches columns that review db/r does not allow together: status, total (it allows note, status)"
}

test_reason_asks_for_columns if {
	d := decision with input as request([effect("update", "app.orders")])
	d.reason == "update on app.orders must name its columns: review db/r allows only note, status"
}

test_reason_of_a_hold if {
	d := decision with input as request([effect("delete", "app.orders")])
	d.reason == "delete on app.orders needs a person's approval under review db/r"
}
