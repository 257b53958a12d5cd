# sallyport: {{.Repo}} policies/guardrails.rego

# What nobody may do, whatever a review says. Rules here can only take away:
# `deny` refuses, and each message is shown to whoever ran the statement.
package access
{{- if .Auto}}

# A review for which one of these messages holds needs nobody, where sallyport.yaml says auto: true. Keep it as narrow as it is
# cheap to be wrong about it: whoever may push a branch can ask.
auto_approve contains "only reads of what has low risk, for 30 days at most" if {
	input.connection.spec.risk == "low"
	every rule in input.review.spec.allow { rule.verbs == ["select"] }
	count(object.get(input.review.spec, "hold", [])) == 0
	count(object.get(input.review.spec, "unmask", [])) == 0
	validity := input.review.spec.validity
	time.parse_rfc3339_ns(validity.expires) - time.parse_rfc3339_ns(validity.notBefore) <= 2592000000000000 # ns
}
{{- end}}

destructive := {"drop", "truncate", "alter", "grant"}

deny contains sprintf("%s is not for a session on %s, which has high risk: use a migration", [effect.verb, input.connection.name]) if {
	input.connection.spec.risk == "high"
	some effect in input.command.effects
	effect.verb in destructive
}
