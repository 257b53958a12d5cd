# METADATA
# title: Which effects of a command a review's rules cover
# description: |
#   Effects are named by their position in `input.command.effects`, rules by their
#   list, "allow" or "hold", and their position in it.
#
#   covers: the rule names the verb and the object, and, where it has columns,
#   the effect's columns are known and all of them are listed. Only covering grants.
#   touches: the rule names the verb and the object, and the effect's columns are
#   unknown or share one with the rule's. A hold rule holds what it touches, so
#   that adding a column to a statement does not slip past it.
#
#   Objects are "schema.table" and match a rule's "schema.table" or "schema.*". An
#   object with any other number of dots matches nothing.
#   lock is also covered by a rule for update or delete. A lock names no columns, so
#   a rule with columns does not cover it.
#   notify, listen and copy_file have no object: they need a rule that names the
#   verb, whatever its `on` says. Any other verb without an object is covered by nothing.
#   Temporary tables of the session itself (schema pg_temp) are free to every review
#   that allows select on something, for the verbs that stay within the table.
package sallyport.coverage

import data.sallyport.clusters
import data.sallyport.hosts
import data.sallyport.patterns

effects := input.command.effects

# allowing and asking are all [effect, rule] of which the allow rule, or the hold
# rule, covers the effect.
allowing contains [i, j] if {
	some i, effect in effects
	not effect.resource
	some j, rule in input.review.spec.allow
	covers(rule, effect)
}

allowing contains [i, j] if { # on a cluster
	some i, effect in effects
	effect.resource
	some j, rule in input.review.spec.allow
	clusters.covers(rule, effect)
}

allowing contains [i, j] if { # temporary tables
	some i, effect in effects
	startswith(effect.object, "pg_temp.")
	patterns.temporary(effect)
	some j, rule in input.review.spec.allow
	"select" in rule.verbs
}

asking contains [i, j] if {
	some j, rule in input.review.spec.hold
	some i, effect in effects
	covers(rule, effect)
}

asking contains [i, j] if {
	some j, rule in input.review.spec.hold
	some i, effect in effects
	clusters.covers(rule, effect)
}

# covers: what most rules and effects are stands first, the rest is only looked at
# when it does not fit.
covers(rule, effect) if {
	effect.object in rule.on
	effect.verb in rule.verbs
	strings.count(effect.object, ".") == 1
	object.get(rule, "columns", null) == null
} else if {
	effect.verb in rule.verbs
	patterns.names(rule, effect)
	patterns.columns_within(rule, effect)
} else if { # a lock, by those who may change what it locks
	effect.verb == "lock"
	some verb in ["update", "delete"]
	verb in rule.verbs
	patterns.columns_within(rule, effect)
	patterns.names(rule, effect)
} else if { # no object
	effect.verb in patterns.without_object
	object.get(effect, "object", "") == ""
	effect.verb in rule.verbs
	object.get(rule, "columns", null) == null
} else if { # on an ssh host
	hosts.covers(rule, effect)
}

allowed := {i | some [i, _] in allowing}

# uncovered are the effects that no rule grants.
uncovered := ({i | some i, _ in effects} - allowed) - {i | some [i, _] in asking}

# holding are the [effect, rule] for which a person has to be asked: the hold rule
# touches the effect, or no allow rule grants it.
holding contains [i, j] if {
	some j, rule in input.review.spec.hold
	some i, effect in effects
	effect.verb in rule.verbs
	patterns.columns_meet(rule, effect)
	patterns.names(rule, effect)
}

holding contains [i, j] if {
	some j, rule in input.review.spec.hold
	some i, effect in effects
	hosts.touches(rule, effect)
}

holding contains [i, j] if {
	some j, rule in input.review.spec.hold
	some i, effect in effects
	clusters.touches(rule, effect)
}

holding contains [i, j] if {
	some [i, j] in asking
	not i in allowed
}
