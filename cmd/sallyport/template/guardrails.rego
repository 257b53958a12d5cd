# sallyport: {{.Repo}} policies/guardrails.rego

# What nobody may do, whatever a review says. Rules here can only take away:
# `deny` refuses, and each message is shown to whoever ran the statement.
package access

destructive := {"drop", "truncate", "alter", "grant"}

deny contains sprintf("%s is not for a session on %s, which has high risk: use a migration", [effect.verb, input.connection.name]) if {
	input.connection.spec.risk == "high"
	some effect in input.command.effects
	effect.verb in destructive
}
