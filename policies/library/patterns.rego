# METADATA
# title: How verbs, objects and columns match
package sallyport.patterns

# names: the rule's `on` lists the effect's object, or its schema as "schema.*". An
# object that could be read in two ways is named by nothing.
names(rule, effect) if {
	effect.object in rule.on
	strings.count(effect.object, ".") == 1
}

names(rule, effect) if {
	some name in rule.on
	endswith(name, ".*")
	strings.count(effect.object, ".") == 1
	startswith(effect.object, trim_suffix(name, "*"))
}

without_object := ["notify", "listen", "copy_file"]

# temporary: a table of the session's own, and a verb that stays within it.
temporary(effect) if {
	startswith(effect.object, "pg_temp.")
	strings.count(effect.object, ".") == 1
	effect.verb in temporary_verbs
}

temporary_verbs := [
	"select", "insert", "update", "delete", "truncate", "lock",
	"create", "alter", "drop", "comment", "analyze", "vacuum", "reindex",
]

# columns_within: the rule is about any column, or about every column of the effect.
columns_within(rule, _) if object.get(rule, "columns", null) == null

columns_within(rule, effect) if {
	knows_columns(effect)
	every column in effect.columns {
		column in rule.columns
	}
}

# columns_meet: the effect may concern a column that the rule is about. A rule
# without columns is about all, an effect without columns may concern any.
columns_meet(rule, _) if object.get(rule, "columns", null) == null

columns_meet(_, effect) if not knows_columns(effect)

columns_meet(rule, effect) if {
	some column in effect.columns
	column in rule.columns
}

knows_columns(effect) if count(effect.columns) > 0
