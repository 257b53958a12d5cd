# METADATA
# title: What people are told
# description: |
#   Reasons name verbs, objects, columns and the review, never a literal of the
#   statement: they go into logs and into git.
package sallyport.wording

import data.sallyport.coverage
import data.sallyport.patterns

unsound := "a deny or hold rule in the access repo's policies gave a message that is not text; its owner has to mend it"

mismatch := sprintf(
	"review %s is for %s on connection %s and does not cover %s commands of %s on %s",
	[
		input.review.name, input.review.spec.subject, input.review.spec.connection,
		input.command.protocol, input.principal, input.connection.name,
	],
)

# The first effect that nothing grants, and how many more there are.
uncovered := concat("", [first_uncovered, others])

first_uncovered := message if {
	effect := input.command.effects[min(coverage.uncovered)]
	limits := column_limits(effect)
	count(limits) > 0
	message := column_message(effect, limits)
} else := sprintf("%s is not in the allow rules of review %s", [
	named(input.command.effects[min(coverage.uncovered)]),
	input.review.name,
])

# column_limits are the columns granted by rules that fit in everything else.
column_limits(effect) := {column |
	some list in ["allow", "hold"]
	some rule in input.review.spec[list]
	effect.verb in rule.verbs
	patterns.names(rule, effect)
	some column in rule.columns
}

column_message(effect, limits) := sprintf(
	"%s touches columns that review %s does not allow together: %s (it allows %s)",
	[
		named(effect), input.review.name,
		concat(", ", sort(effect.columns)), concat(", ", sort(limits)),
	],
) if {
	patterns.knows_columns(effect)
}

column_message(effect, limits) := sprintf(
	"%s must name its columns: review %s allows only %s",
	[named(effect), input.review.name, concat(", ", sort(limits))],
) if {
	not patterns.knows_columns(effect)
}

others := "" if count(coverage.uncovered) == 1

others := sprintf(" (and %d more)", [count(coverage.uncovered) - 1]) if count(coverage.uncovered) > 1

held := sprintf("%s needs a person's approval under review %s", [
	named(input.command.effects[min({i | some [i, _] in coverage.holding})]),
	input.review.name,
])

allowed := concat(" ", ["review", input.review.name, "allows it"])

# named: "delete on app.orders", or "notify" for a verb without an object.
named(effect) := sprintf("%s on %s", [effect.verb, effect.object]) if {
	object.get(effect, "object", "") != ""
} else := effect.verb
