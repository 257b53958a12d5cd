# sallyport: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11 policies/guardrails_test.rego

package access_test

import data.access

test_drop_is_denied if {
	count(access.deny) == 1 with input as {
		"connection": {"spec": {"risk": "high"}},
		"command": {"effects": [{"verb": "drop", "object": "app.orders"}]},
	}
}

test_select_is_not if {
	count(access.deny) == 0 with input as {
		"connection": {"spec": {"risk": "high"}},
		"command": {"effects": [{"verb": "select", "object": "app.orders"}]},
	}
}
