package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

// change is one difference between what is in force and what is proposed.
type change struct {
	Effect string `json:"effect"` // one of the words below
	What   string `json:"what"`
	Widens bool   `json:"widens"` // somebody can do or see more than before
}

// The effects of changes, as people read them.
const (
	newlyAllows  = "newly allows"
	newlyHolds   = "newly allows, each time only after a person agreed"
	stopsAsking  = "no longer asks a person before"
	startsAsking = "from now on asks a person before"
	noLonger     = "no longer allows"
	comesMasked  = "shows masked"
	newlyMasks   = "newly masks"
	unmasks      = "no longer masks"
	masksAnew    = "masks in another way"
	changes      = "changes"
	adds         = "adds"
	removes      = "removes"
)

// atom is the smallest grant: one verb on one object, with the columns that it is
// limited to (none: all).
type atom struct {
	verb, object string
	columns      string // sorted, with commas
}

func (a atom) columnList() []string {
	if a.columns == "" {
		return nil
	}
	return strings.Split(a.columns, ",")
}

// atoms takes rules apart.
func atoms(rules []reviews.Rule) []atom {
	var list []atom
	for _, r := range rules {
		columns := strings.Join(slices.Sorted(slices.Values(r.Columns)), ",")
		objects := r.On
		if len(objects) == 0 {
			objects = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, object := range objects {
				list = append(list, atom{verb, object, columns})
			}
		}
	}
	return list
}

// names says whether a rule's object stands for another rule's.
func names(pattern, object string) bool {
	schema, everything := strings.CutSuffix(pattern, ".*")
	return pattern == object || everything && strings.HasPrefix(object, schema+".")
}

// covers says whether everything that b is about is something that a is about.
func (a atom) covers(b atom) bool {
	if a.verb != b.verb || !names(a.object, b.object) {
		return false
	}
	if a.columns == "" {
		return true
	}
	mine := a.columnList()
	return b.columns != "" && !slices.ContainsFunc(b.columnList(), func(c string) bool { return !slices.Contains(mine, c) })
}

// granted is what a review, or none, grants, taken apart.
type granted struct{ allow, hold []atom }

func grantsOf(r *reviews.Review) granted {
	if r == nil {
		return granted{}
	}
	return granted{atoms(r.Spec.Allow), atoms(r.Spec.Hold)}
}

// state is what happens to a command that needs exactly this grant, the way the
// built-in policy decides: one rule has to cover it, and a hold goes before an allow.
func (g granted) state(a atom) string {
	covering := func(b atom) bool { return b.covers(a) }
	switch {
	case slices.ContainsFunc(g.hold, covering):
		return "hold"
	case slices.ContainsFunc(g.allow, covering):
		return "allow"
	}
	return "none"
}

// compareGrants are all differences between two sets of rules.
func compareGrants(before, after granted) []change {
	found := make(map[string][]atom) // by effect
	seen := make(map[atom]bool)
	for _, a := range slices.Concat(after.allow, after.hold, before.allow, before.hold) {
		if seen[a] {
			continue
		}
		seen[a] = true
		effect := ""
		switch was, is := before.state(a), after.state(a); {
		case was == is:
		case was == "none" && is == "allow":
			effect = newlyAllows
		case was == "none" && is == "hold":
			effect = newlyHolds
		case was == "hold" && is == "allow":
			effect = stopsAsking
		case was == "allow" && is == "hold":
			effect = startsAsking
		case is == "none":
			effect = noLonger
		}
		if effect != "" {
			found[effect] = append(found[effect], a)
		}
	}
	var list []change
	for _, effect := range []string{newlyAllows, stopsAsking, newlyHolds, startsAsking, noLonger} {
		for _, what := range together(found[effect]) {
			list = append(list, change{effect, what, effect == newlyAllows || effect == stopsAsking || effect == newlyHolds})
		}
	}
	return list
}

// together writes grants in as few lines as possible, in the order in which they came.
func together(list []atom) []string {
	verbs := merge(list, func(a atom) string { return a.object + "|" + a.columns }, func(a atom) string { return a.verb })
	var whole []atom // verbs joined
	for _, m := range verbs {
		whole = append(whole, atom{strings.Join(m.words, ", "), m.first.object, m.first.columns})
	}
	var lines []string
	for _, m := range merge(whole, func(a atom) string { return a.verb + "|" + a.columns }, func(a atom) string { return a.object }) {
		line := m.first.verb
		if objects := strings.Join(m.words, ", "); objects != "" {
			line += " on " + objects
		}
		if m.first.columns != "" {
			line += ", only columns " + strings.Join(m.first.columnList(), ", ")
		}
		lines = append(lines, line)
	}
	return lines
}

type merged struct {
	first atom
	words []string
}

func merge(list []atom, key, word func(atom) string) []merged {
	var all []merged
	at := make(map[string]int)
	for _, a := range list {
		k := key(a)
		i, known := at[k]
		if !known {
			i = len(all)
			at[k] = i
			all = append(all, merged{first: a})
		}
		all[i].words = append(all[i].words, word(a))
	}
	return all
}

// wildcards says what each "schema.*" of the review stands for today.
func wildcards(r *reviews.Review, connection *reviews.Connection) []string {
	if r == nil || connection == nil {
		return nil
	}
	var lines []string
	seen := make(map[string]bool)
	for _, rule := range slices.Concat(r.Spec.Allow, r.Spec.Hold) {
		for _, object := range rule.On {
			schema, everything := strings.CutSuffix(object, ".*")
			if !everything || seen[object] {
				continue
			}
			seen[object] = true
			relations := relationsIn(connection, schema)
			line := object + " stands for every relation of the schema, also future ones"
			if relations != nil {
				line += fmt.Sprintf("; today: %s (%s)", count(len(relations), "relation"), shortList(relations, 12))
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// relationsIn are the relations of a schema in the committed catalog; nil without a usable one.
func relationsIn(connection *reviews.Connection, schema string) []string {
	if connection.Catalog == nil {
		return nil
	}
	catalog, err := sqlguard.ParseCatalog(connection.Catalog)
	if err != nil {
		return nil
	}
	names := []string{}
	for _, r := range catalog.Relations {
		if r.Schema == schema && slices.Contains(readable, r.Kind) {
			names = append(names, r.Schema+"."+r.Name)
		}
	}
	slices.Sort(names)
	return names
}

func shortList(words []string, most int) string {
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return strings.Join(words[:most], ", ") + fmt.Sprintf(" and %d more", len(words)-most)
}

// masksIn are the masks of a session under the review, column to function.
func masksIn(connection *reviews.Connection, review *reviews.Review) map[string]string {
	masks := make(map[string]string)
	var list []reviews.Mask
	switch {
	case review != nil && connection != nil:
		list = append(slices.Clone(connection.Spec.Mask), review.Spec.Mask...)
	case review != nil:
		list = review.Spec.Mask
	case connection != nil:
		list = connection.Spec.Mask
	}
	for _, m := range list {
		masks[m.Column] = m.How()
	}
	return masks
}

func compareMasks(before, after map[string]string) []change {
	var list []change
	for _, column := range slices.Sorted(maps.Keys(before)) {
		switch with, still := after[column]; {
		case !still:
			list = append(list, change{unmasks, column + " (it was masked with " + before[column] + ")", true})
		case with != before[column]:
			list = append(list, change{masksAnew, fmt.Sprintf("%s (%s instead of %s)", column, with, before[column]), true})
		}
	}
	for _, column := range slices.Sorted(maps.Keys(after)) {
		if _, was := before[column]; !was {
			list = append(list, change{newlyMasks, column + " (" + after[column] + ")", false})
		}
	}
	return list
}

// shownMasked are the masks on what a new review lets somebody read.
func shownMasked(connection *reviews.Connection, review *reviews.Review) []change {
	var list []change
	masks := masksIn(connection, review)
	for _, column := range slices.Sorted(maps.Keys(masks)) {
		relation := column[:strings.LastIndex(column, ".")]
		for _, a := range slices.Concat(atoms(review.Spec.Allow), atoms(review.Spec.Hold)) {
			if a.verb == "select" && names(a.object, relation) {
				list = append(list, change{comesMasked, column + " (" + masks[column] + ")", false})
				break
			}
		}
	}
	return list
}

// compareFields are all differences between two documents, field by field, whatever
// their kind: no change of a document can be left out of what people read because
// nobody thought of the field. skip are fields that are told in better words.
func compareFields(before, after any, skip ...string) []change {
	old, now := make(map[string][]string), make(map[string][]string)
	flatten(old, "", plain(before))
	flatten(now, "", plain(after))
	var list []change
	paths := make(map[string]bool)
	for _, fields := range []map[string][]string{old, now} {
		for path := range fields {
			paths[path] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if slices.ContainsFunc(skip, func(s string) bool { return path == s || strings.HasPrefix(path, s+".") }) {
			continue
		}
		list = append(list, compareValues(path, old[path], now[path])...)
	}
	return list
}

// compareValues compares a field, which has one value, or the elements of a list.
func compareValues(path string, old, now []string) []change {
	if slices.Equal(old, now) {
		return nil
	}
	if len(old) == 1 && len(now) == 1 {
		return []change{{changes, fmt.Sprintf("%s: %s instead of %s", path, now[0], old[0]), true}}
	}
	var list []change
	for _, v := range missingIn(old, now) {
		list = append(list, change{adds, path + ": " + v, true})
	}
	for _, v := range missingIn(now, old) {
		list = append(list, change{removes, path + ": " + v, true})
	}
	if len(list) == 0 {
		list = append(list, change{changes, path + ": the order or the number of its elements", true})
	}
	return list
}

// missingIn are the words of list that known lacks.
func missingIn(known, list []string) []string {
	var missing []string
	for _, word := range list {
		if !slices.Contains(known, word) {
			missing = append(missing, word)
		}
	}
	return missing
}

// plain is a value as JSON has it.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("a document does not marshal: %v", err)) // plain data always does
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(fmt.Sprintf("a document does not unmarshal: %v", err))
	}
	return out
}

// flatten lists the fields below v: a scalar by its text, a list by the text of
// its elements. Empty lists and nulls are as good as absent.
func flatten(into map[string][]string, path string, v any) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for name, member := range v {
			flatten(into, strings.TrimPrefix(path+"."+name, "."), member)
		}
	case []any:
		for _, element := range v {
			into[path] = append(into[path], scalarText(element))
		}
	default:
		into[path] = []string{scalarText(v)}
	}
}

func scalarText(v any) string {
	if s, is := v.(string); is && s != "" && !strings.ContainsAny(s, "\n\"") {
		return s
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
