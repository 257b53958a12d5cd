# sallyport: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11 policies/guardrails.rego

package access

deny contains "a table of a high-risk connection is never dropped or truncated" if {
	input.connection.spec.risk == "high"
	some effect in input.command.effects
	effect.verb in {"drop", "truncate"}
}
