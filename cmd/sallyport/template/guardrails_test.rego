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
