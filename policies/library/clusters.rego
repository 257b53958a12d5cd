# METADATA
# title: Which effects of a Kubernetes request a rule covers
# description: |
#   covers: the rule names the verb and the resource, subresource and group included;
#   its namespaces fit the request's, or it is for the whole cluster and the request has
#   none, which also means all of them; where the rule has names, one fits the
#   request's, which therefore names one object; and what pods/exec runs has the
#   shape of the rule's command, as hosts.rego says.
#   A pattern is exact, or has one "*" for any characters.
#
#   touches: the request may concern something that the rule covers: all
#   namespaces or all names meet any. A hold rule holds what it touches.
package sallyport.clusters

import data.sallyport.hosts

covers(rule, effect) if {
	about(rule, effect)
	placed(rule, effect)
	named(rule, effect)
}

touches(rule, effect) if {
	about(rule, effect)
	place_meets(rule, effect)
	name_meets(rule, effect)
}

about(rule, effect) if {
	effect.resource in rule.resources # what tells most rules apart
	effect.verb in rule.verbs
	runs(rule, effect)
}

runs(rule, effect) if {
	effect.resource != "pods/exec"
	object.get(rule, "command", null) == null
}

runs(rule, effect) if {
	effect.resource == "pods/exec"
	hosts.shape(rule.command, effect.argv)
}

placed(rule, effect) if {
	object.get(effect, "namespace", "") == ""
	rule.cluster == true
}

placed(rule, effect) if {
	some pattern in rule.namespaces
	fits(pattern, effect.namespace)
}

place_meets(_, effect) if object.get(effect, "namespace", "") == ""

place_meets(rule, effect) if placed(rule, effect)

named(rule, _) if object.get(rule, "names", null) == null

named(rule, effect) if {
	some pattern in rule.names
	fits(pattern, effect.name)
}

name_meets(_, effect) if object.get(effect, "name", "") == ""

name_meets(rule, effect) if named(rule, effect)

fits(pattern, text) if {
	pattern == text
	text != ""
} else if {
	text != ""
	[before, after] := split(pattern, "*")
	startswith(text, before)
	endswith(text, after)
	count(text) >= count(before) + count(after)
}
