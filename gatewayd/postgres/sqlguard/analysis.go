package sqlguard

import (
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/sallyport-dev/sallyport/policies"
)

// analysis is the state of understanding one text. Statements see what the ones
// before them in the same text did: a search path, a temporary table.
type analysis struct {
	g        *Guard
	text     string
	path     []string
	temp     map[string]bool
	prepared map[string]PreparedEffects

	ctes     []map[string]bool // innermost last
	facts    *facts            // of the top-level statement at hand
	edits    []edit
	effects  effectSet
	refusal  *policies.Refusal
	parts    []Part
	secret   []token // ranges whose literals are digested
	params   map[int]bool
	scrub    bool
	masked   bool
	lookedUp int             // values that are looked up
	sought   map[string]bool // those that are literals, which the guard writes into sub-selects
	// onlyCall says that the statement is SELECT of one function call and nothing else.
	onlyCall bool
	// free are the places of constants in expressions, fixed of those that something
	// depends on; exact says that it may depend on any. types counts the type names around.
	free, fixed map[int]bool
	exact       bool
	types       int
	// inner says that the answer of the text is not described by itself; origins are
	// the columns that its description has to name.
	inner   bool
	origins []Origin
	// kept are the places where a masked relation stays a relation: what is
	// written to or defined there. bare are the names that stay unqualified:
	// WITH queries and the names in FOR UPDATE OF.
	kept, bare map[int]bool
}

// facts is what one top-level statement mentions, gathered on the way.
type facts struct {
	start, end     int
	part           Part
	uses           []*use
	columns        []columnRef
	params         []int
	levels         []*selectLevel
	sites          []*site
	tokens         []token
	writtenOut     map[int]bool   // places of column references that became something else
	aliases        map[string]int // names of range items, and how many there are of each
	written        map[string]bool
	star           bool // a star below the outermost select list
	topStar        bool
	natural        bool // NATURAL JOIN
	joinAlias      bool // a join with an alias, whose whole row is that of several relations
	aliasColumns   bool // an alias that renames columns
	indirection    bool // (expression).field
	setOperation   bool
	executesMasked bool // runs a prepared statement that reads a masked relation
	callsListed    bool
	planOnly       bool // EXPLAIN without ANALYZE
	writes         bool
	secret         bool                       // its literals are digested whatever they meet
	derived        map[[2]string]int          // alias and column of sub-selects and WITH queries in FROM
	withColumns    map[string]map[string]bool // of WITH queries, by name; nil for a name that two have
	ambiguous      [][2]string                // qualifier and field that may be a function
	lookups        int                        // values that are looked up
	verbs          []policies.Effect          // effects that no relation reference carries
}

// use is one reference to a relation.
type use struct {
	rel        *Relation // nil for temporary ones
	masked     *maskedRelation
	object     string // "" for system catalogs
	alias      string
	start, end int // of the name
	from, to   int // of what a sub-select replaces: the name, ONLY before it and * behind it
	hasAlias   bool
	renamed    bool // the alias has column names of its own
	only       bool
	sample     string          // TABLESAMPLE …, when it moves into the sub-select
	system     []string        // system columns that the sub-select shows
	fence      string          // a condition of its own that the sub-select has
	filter     []string        // conditions on raw values, which the sub-select has
	reached    map[string]bool // the columns that the sub-select shows, nil for all
	read       bool            // false for the target of a write, until something of it is read
	rowRead    bool            // everything of it is read
	locked     bool
	target     bool // of a write
	qualified  bool // the text names its schema
	replaced   bool // a read of a masked relation: the whole name becomes a sub-select
	schema     string
	name       string
	verbs      []policies.Effect
}

// columnRef is one column reference of the text: its names, "" in last place for a star.
type columnRef struct {
	names    []string
	location int
}

func (c columnRef) last() string { return c.names[len(c.names)-1] }

func (c columnRef) qualifier() string {
	if len(c.names) < 2 {
		return ""
	}
	return c.names[len(c.names)-2]
}

func newAnalysis(g *Guard, text string, scope Scope) *analysis {
	a := &analysis{
		g: g, text: text, path: scope.SearchPath,
		temp: make(map[string]bool, len(scope.Temp)), prepared: make(map[string]PreparedEffects, len(scope.Prepared)),
		params: make(map[int]bool), sought: make(map[string]bool), free: make(map[int]bool), fixed: make(map[int]bool), kept: make(map[int]bool), bare: make(map[int]bool),
	}
	for _, t := range scope.Temp {
		a.temp[t.Name] = true
	}
	for name, p := range scope.Prepared {
		a.prepared[name] = p
	}
	return a
}

// refuse notes why the text is refused; the first reason stays.
func (a *analysis) refuse(rule, format string, args ...any) {
	if a.refusal == nil {
		a.refusal = &policies.Refusal{Rule: rule, Reason: fmt.Sprintf(format, args...)}
	}
}

// statement understands one top-level statement.
func (a *analysis) statement(raw *pg.RawStmt) {
	end := len(a.text)
	if raw.StmtLen > 0 {
		end = int(raw.StmtLocation + raw.StmtLen)
	}
	a.facts = &facts{start: int(raw.StmtLocation), end: end, aliases: make(map[string]int), written: make(map[string]bool), writtenOut: make(map[int]bool), derived: make(map[[2]string]int), withColumns: make(map[string]map[string]bool)}
	a.topLevel(inner(raw.Stmt))
	if a.refusal != nil {
		return
	}
	a.settle()
}

// settle turns the facts of a finished statement into edits, effects and what is secret.
func (a *analysis) settle() {
	f := a.facts
	touches := f.executesMasked
	a.systemColumns()
	fences := len(a.edits)
	a.fences()
	late := slices.Clone(a.edits[fences:]) // where they meet others, they come last
	a.edits = a.edits[:fences]
	var effects effectSet
	for _, u := range f.uses {
		if u.masked != nil && !u.masked.system {
			touches = true
		}
		a.splice(u)
		for _, e := range u.verbs {
			effects.add(e)
		}
		if u.object != "" && (u.read || u.rowRead) {
			effects.add(policies.Effect{Verb: "select", Object: u.object, Columns: f.columnsRead(u)})
		}
	}
	for _, e := range f.verbs {
		effects.add(e)
	}
	a.qualifyColumns()
	a.edits = append(a.edits, late...)
	a.ambiguousFields()
	sensitive := touches && f.meetsMasked()
	if sensitive || f.secret {
		a.secret = append(a.secret, token{start: f.start, end: f.end})
		for _, n := range f.params {
			a.params[n] = true
		}
	}
	if f.callsListed || a.g.hasMask && (f.writes || touches && f.part.Kind != KindSelect) {
		f.part.ScrubErrors = true
	}
	if p := f.part.Prepared; p != nil && f.part.Kind == KindPrepare {
		p.Effects, p.ScrubErrors, p.Masked, p.Sensitive, p.Lookups = effects, f.part.ScrubErrors, touches, sensitive, f.lookups
		f.lookups = 0
		a.prepared[f.part.Name] = *p
		effects = nil // decided when it is executed
	}
	for _, e := range effects {
		a.effects.add(e)
	}
	a.scrub = a.scrub || f.part.ScrubErrors
	a.masked = a.masked || touches
	a.lookedUp += f.lookups
	if f.part.Temp != nil {
		a.temp[f.part.Temp.Name] = true
	}
	for _, name := range f.part.DropsTemp {
		delete(a.temp, name)
	}
	if f.part.Kind == KindSet && f.part.Name == "search_path" && !f.part.Reset {
		a.path = f.part.SearchPath
	}
	a.parts = append(a.parts, f.part)
}

// effectSet is a list of effects with one element per verb and object.
type effectSet []policies.Effect

// add adds an effect, merging it with one of the same verb and object.
func (s *effectSet) add(e policies.Effect) {
	for i := range *s {
		have := &(*s)[i]
		if have.Verb != e.Verb || have.Object != e.Object {
			continue
		}
		if have.Columns == nil || e.Columns == nil {
			have.Columns = nil
			return
		}
		for _, c := range e.Columns {
			if !slices.Contains(have.Columns, c) {
				have.Columns = append(have.Columns, c)
			}
		}
		slices.Sort(have.Columns)
		return
	}
	if e.Columns != nil {
		e.Columns = append(make([]string, 0, len(e.Columns)), e.Columns...)
		slices.Sort(e.Columns)
	}
	*s = append(*s, e)
}

// meetsMasked says whether a literal or parameter of the statement can be
// compared with, or stored in, a masked column. When in doubt it can.
func (f *facts) meetsMasked() bool {
	if f.star || f.natural || f.aliasColumns || f.indirection || f.setOperation || f.writes && len(f.written) == 0 {
		return true
	}
	for _, u := range f.uses {
		if u.masked == nil || u.masked.system {
			continue
		}
		if !u.masked.columnwise() {
			return true
		}
		for name := range u.masked.masks {
			if f.written[name] || f.aliases[name] > 0 {
				return true
			}
			for _, c := range f.columns {
				if slices.Contains(c.names, name) {
					return true
				}
			}
		}
		for _, c := range f.columns {
			if c.last() == u.alias {
				return true
			}
		}
	}
	return false
}

// columnsRead lists the columns of a relation that the statement can read,
// rather too many than too few; nil means any.
func (f *facts) columnsRead(u *use) []string {
	if u.rel == nil || u.rowRead || f.natural || f.aliasColumns || f.indirection {
		return nil
	}
	found := make(map[string]bool)
	for _, c := range f.columns {
		last := c.last()
		switch q := c.qualifier(); {
		case q != "" && q != u.alias && f.aliases[q] > 0:
			continue // surely of another relation
		case last == "" || last == u.alias:
			return nil // a star or the whole row
		case u.rel.Column(last) != nil:
			found[last] = true
		case q == u.alias && !systemColumns[last]:
			return nil // function notation: alias.function
		}
	}
	return append(make([]string, 0, len(found)), sortedKeys(found)...)
}

var systemColumns = map[string]bool{"tableoid": true, "ctid": true, "xmin": true, "xmax": true, "cmin": true, "cmax": true}

// finish applies the edits and checks the result.
func (a *analysis) finish(tree *pg.ParseResult) Statement {
	st := Statement{
		Command:     policies.Command{Protocol: "postgres", Statement: a.text, Effects: a.effects},
		Parts:       a.parts,
		ScrubErrors: a.scrub, Masked: a.masked, Lookups: a.lookedUp, Origins: a.origins, input: a.text,
	}
	if len(tree.Stmts) == 0 {
		st.Parts = []Part{{Kind: KindEmpty}}
	}
	if a.refusal == nil {
		rewritten, edits, err := apply(a.text, a.edits)
		if err == nil && len(edits) > 0 {
			err = a.verify(tree, rewritten, edits)
		}
		if err != nil {
			a.refuse("rewrite_failed", "this statement cannot be rewritten soundly: %v; write it more plainly, with each relation as schema.name", err)
		}
		st.Rewritten, st.edits = rewritten, edits
	}
	if a.refusal != nil {
		refused := a.g.refused(a.text, a.refusal.Rule, a.refusal.Reason)
		if !a.g.hasMask && !holdsPassword(tree) {
			refused.Recorded = a.text
		}
		return refused
	}
	for n := range a.params {
		st.SensitiveParameters = append(st.SensitiveParameters, n)
	}
	slices.Sort(st.SensitiveParameters)
	st.sensitive = len(a.secret)+len(a.params) > 0
	st.secret, st.sought, st.free = a.secret, a.sought, a.freeConstants()
	a.g.record(&st)
	return st
}

// record makes the texts that may be kept.
func (g *Guard) record(st *Statement) {
	if len(st.secret) == 0 {
		st.Recorded, st.RecordedRewritten = st.input, st.Rewritten
		return
	}
	st.Recorded = g.digestLiterals(st.input, func(t token) bool {
		if !within(st.secret, t.start) {
			return false
		}
		st.Secrets = append(st.Secrets, literalValue(st.input[t.start:t.end]))
		return true
	})
	shifted := shift(st.secret, st.edits)
	generated := generatedRanges(st.edits)
	st.RecordedRewritten = g.digestLiterals(st.Rewritten, func(t token) bool {
		return within(shifted, t.start) && (!within(generated, t.start) || st.sought[literalValue(st.Rewritten[t.start:t.end])])
	})
}

func within(ranges []token, at int) bool {
	for _, r := range ranges {
		if at >= r.start && at < r.end {
			return true
		}
	}
	return false
}

// shift moves ranges of the input to where they are after the edits.
func shift(ranges []token, edits []edit) []token {
	move := func(at int) int {
		by := 0
		for _, e := range edits {
			if e.end <= at {
				by += len(e.text) - (e.end - e.start)
			}
		}
		return at + by
	}
	out := make([]token, len(ranges))
	for i, r := range ranges {
		out[i] = token{start: move(r.start), end: move(r.end)}
	}
	return out
}

// generatedRanges are the ranges of the rewritten text that the guard wrote.
func generatedRanges(edits []edit) []token {
	var out []token
	by := 0
	for _, e := range edits {
		out = append(out, token{start: e.start + by, end: e.start + by + len(e.text)})
		by += len(e.text) - (e.end - e.start)
	}
	return out
}
