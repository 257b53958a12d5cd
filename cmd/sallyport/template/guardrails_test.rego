# sallyport: {{.Repo}} policies/guardrails_test.rego

package access_test

import data.access

statement(verb, risk) := {
	"connection": {"name": "{{.Connection}}", "spec": {"risk": risk}},
	"command": {"effects": [{"verb": verb, "object": "app.orders"}]},
}

test_drop_is_denied_on_high_risk if {
	count(access.deny) == 1 with input as statement("drop", "high")
}

test_drop_is_left_to_the_review_elsewhere if {
	count(access.deny) == 0 with input as statement("drop", "low")
}

test_select_is_left_to_the_review if {
	count(access.deny) == 0 with input as statement("select", "high")
}
{{- if .Auto}}

request(risk, rule, more) := {
	"connection": {"name": "{{.Connection}}", "spec": {"risk": risk}},
	"review": {"spec": object.union({"allow": [rule], "validity": {"notBefore": "2026-11-01T00:00:00Z", "expires": "2026-12-01T00:00:00Z"}}, more)},
}

reads := {"verbs": ["select"], "on": ["app.orders"]}

test_reads_at_low_risk_need_nobody if {
	count(access.auto_approve) == 1 with input as request("low", reads, {})
}

test_everything_else_needs_somebody if {
	every asked in [
		request("high", reads, {}),
		request("low", {"verbs": ["select", "update"], "on": ["app.orders"]}, {}),
		request("low", reads, {"unmask": ["app.customers.email"]}),
		request("low", reads, {"hold": [{"verbs": ["delete"], "on": ["app.orders"]}]}),
		request("low", reads, {"validity": {"notBefore": "2026-11-01T00:00:00Z", "expires": "2026-12-01T00:00:01Z"}}),
	] {
		count(access.auto_approve) == 0 with input as asked
	}
}
{{- end}}
