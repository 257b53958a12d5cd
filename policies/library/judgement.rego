# METADATA
# title: The order in which a command is judged
# description: |
#   1. a policy of the owner that misbehaves            deny  policy_error
#   2. a command that the engine refuses                 deny  the refusal's rule
#   3. a review that is not for this session             deny  review_mismatch
#   4. the owner's deny rules                            deny  access.deny
#   5. an effect that no rule of the review grants       deny  default
#   6. the review's hold rules                           hold  hold[n]
#   7. the owner's hold rules                            hold  access.hold
#   8. otherwise                                         allow allow[n], no_effects
package sallyport.judgement

import data.sallyport.coverage
import data.sallyport.wording

# Only the first branch allows, and it states everything that must be true. Most
# commands end there, so it asks little: that the owner's rules say nothing at
# all, rather than what they say. A branch whose words cannot be made is passed
# over, towards denial.
decision := {"verdict": "allow", "rule": allowed_by, "reason": wording.allowed} if {
	is_array(input.command.effects)
	object.get(input.command, "refusal", null) == null
	input.review.spec.subject == input.principal
	input.review.spec.connection == input.connection.name
	input.connection.spec.protocol == input.command.protocol
	not owner_speaks
	count(coverage.allowed) == count(input.command.effects)
	not review_holds
} else := {"verdict": "hold", "rule": held_by.rule, "reason": held_by.reason} if {
	granted
} else := {"verdict": "deny", "rule": denied_by.rule, "reason": denied_by.reason}

owner_speaks if some _ in data.access.deny

owner_speaks if some _ in data.access.hold

review_holds if {
	some _ in input.review.spec.hold # most reviews have none
	count(coverage.holding) > 0
}

# granted, but not allowed, so held: undefined, so false, when any part of the
# input is missing.
granted if {
	is_array(input.command.effects)
	not refused
	for_this_session
	not unsound
	count(denials) == 0
	count(coverage.uncovered) == 0
}

denials := [message | some message in data.access.deny]

holds := [message | some message in data.access.hold]

refused if object.get(input.command, "refusal", null) != null

for_this_session if {
	input.review.spec.subject == input.principal
	input.review.spec.connection == input.connection.name
	input.connection.spec.protocol == input.command.protocol
}

# unsound: a rule of the owner gave something else than a message.
unsound if {
	some message in denials
	not is_message(message)
}

unsound if {
	some message in holds
	not is_message(message)
}

is_message(message) if {
	is_string(message)
	message != ""
}

default allowed_by := "no_effects"

allowed_by := sprintf("allow[%d]", [min({j | some [0, j] in coverage.allowing})]) if {
	count(input.command.effects) > 0
}

held_by := {"rule": sprintf("hold[%d]", [min(coverage.holding)[1]]), "reason": wording.held} if {
	count(coverage.holding) > 0
} else := {"rule": "access.hold", "reason": concat("; ", sort(holds))}

denied_by := {"rule": "policy_error", "reason": wording.unsound} if {
	unsound
} else := input.command.refusal if {
	refused
} else := {"rule": "review_mismatch", "reason": wording.mismatch} if {
	not for_this_session
} else := {"rule": "access.deny", "reason": concat("; ", sort(denials))} if {
	count(denials) > 0
} else := {"rule": "default", "reason": wording.uncovered}
