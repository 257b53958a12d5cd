package sqlguard

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// jsonTree is where the paths of a mask lead: by member, what is below it; an
// empty tree is the end of a path.
type jsonTree map[string]jsonTree

func (f form) tree() jsonTree {
	root := jsonTree{}
	for _, path := range f.paths {
		at := root
		for i, name := range path {
			next, there := at[name]
			switch {
			case there && len(next) == 0: // a shorter path hides it all
			case i == len(path)-1:
				next = jsonTree{}
				at[name] = next
			case !there:
				next = jsonTree{}
				at[name] = next
			}
			if len(next) == 0 && (there || i == len(path)-1) {
				break
			}
			at = next
		}
	}
	return root
}

// json hides what the paths lead to. An array on the way is every element of
// it. Where a path expects an object and finds another array, a string, a number or
// a boolean, that is hidden whole: nobody knows what it is.
func (f form) json(col Column, raw string) string {
	switch {
	case isBuiltIn(col, "jsonb"):
		return "case when " + raw + " is null then null else " + f.jsonNode(raw, f.tree(), 1) + " end"
	case isBuiltIn(col, "json"):
		// json holds what jsonb does not take: such a value is hidden whole.
		return "case when " + raw + " is null then null when " + raw + `::pg_catalog.text operator(pg_catalog.~) '\\u(0000|[dD][89a-fA-F])|(^|[:,[])\s*-?[0-9.]+[eE][+-]?[0-9]{4}|[0-9]{200}' then '{}' else ` +
			f.jsonNode("("+raw+"::pg_catalog.jsonb)", f.tree(), 1) + "::pg_catalog.json end"
	}
	return ""
}

// jsonNode treats what is no array as an array of one, so that its text grows with the tree alone.
func (f form) jsonNode(value string, tree jsonTree, depth int) string {
	d := strconv.Itoa(depth)
	array := jsonIs(value, "array")
	item, at, all := "sallyport_i"+d, "sallyport_n"+d, "sallyport_a"+d
	return "(select case when " + array + " then coalesce(" + all + ", '[]'::pg_catalog.jsonb) else " + all + " operator(pg_catalog.->) 0 end from (select pg_catalog.jsonb_agg(" +
		f.jsonMembers(item, tree, depth) + " order by " + at + ") as " + all + " from pg_catalog.jsonb_array_elements(case when " + array + " then " + value +
		" else pg_catalog.jsonb_build_array(" + value + ") end) with ordinality as sallyport_e" + d + "(" + item + ", " + at + ")) as sallyport_s" + d + ")"
}

func (f form) jsonMembers(value string, tree jsonTree, depth int) string {
	d := strconv.Itoa(depth)
	key, member := "sallyport_k"+d, "sallyport_v"+d
	var b strings.Builder
	b.WriteString("case ")
	every, some := tree["*"]
	below := func(t jsonTree) string {
		if len(t) == 0 {
			return f.jsonLeaf(member)
		}
		return f.jsonNode(member, t, depth+1)
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		if name == "*" {
			continue
		}
		t := tree[name]
		if some {
			t = merged(t, every)
		}
		b.WriteString("when " + key + " operator(pg_catalog.=) " + quoteLiteral(name) + " then " + below(t) + " ")
	}
	rest := member
	if some {
		rest = below(every)
	}
	changed := b.String() + "else " + rest + " end"
	if len(tree) == 1 && some {
		changed = rest
	}
	return "case when " + jsonIs(value, "object") + " then (select coalesce(pg_catalog.jsonb_object_agg(" + key + ", " + changed + "), '{}'::pg_catalog.jsonb) from pg_catalog.jsonb_each(" +
		value + ") as sallyport_o" + d + "(" + key + ", " + member + ")) else " + f.jsonLeaf(value) + " end"
}

// merged are the paths of both; the shorter hides more and wins.
func merged(a, b jsonTree) jsonTree {
	if len(a) == 0 || len(b) == 0 {
		return jsonTree{}
	}
	out := maps.Clone(a)
	for name, t := range b {
		if have, both := out[name]; both {
			t = merged(have, t)
		}
		out[name] = t
	}
	return out
}

// jsonLeaf hides a value whole, keeping its type; null stays null.
func (f form) jsonLeaf(value string) string {
	if f.with == "null" {
		return "'null'::pg_catalog.jsonb"
	}
	return "case when " + jsonIs(value, "string") + ` then '"****"' when ` + jsonIs(value, "number") + " then '0' when " + jsonIs(value, "boolean") + " then 'false' when " +
		jsonIs(value, "object") + " then '{}' when " + jsonIs(value, "array") + " then '[]' else 'null' end::pg_catalog.jsonb"
}

func jsonIs(value, typ string) string {
	return "pg_catalog.jsonb_typeof(" + value + ") operator(pg_catalog.=) '" + typ + "'"
}
