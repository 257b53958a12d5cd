package sqlguard

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/policies"
)

// Kind says what a top-level statement is, as far as whoever tracks a session needs to know.
type Kind string

const (
	KindSelect      Kind = "select"
	KindInsert      Kind = "insert"
	KindUpdate      Kind = "update"
	KindDelete      Kind = "delete"
	KindMerge       Kind = "merge"
	KindCopyIn      Kind = "copy_in"  // COPY … FROM STDIN
	KindCopyOut     Kind = "copy_out" // COPY … TO STDOUT
	KindBegin       Kind = "begin"
	KindCommit      Kind = "commit"
	KindRollback    Kind = "rollback"
	KindSavepoint   Kind = "savepoint"   // Name is the savepoint
	KindRelease     Kind = "release"     // Name is the savepoint
	KindRollbackTo  Kind = "rollback_to" // Name is the savepoint
	KindSet         Kind = "set"         // Name is the setting; also RESET and a constant set_config
	KindShow        Kind = "show"        // Name is the setting
	KindPrepare     Kind = "prepare"     // Name and Prepared
	KindExecute     Kind = "execute"     // Name
	KindDeallocate  Kind = "deallocate"  // Name, "" for ALL
	KindDeclare     Kind = "declare"     // Name is the cursor
	KindFetch       Kind = "fetch"       // Name is the cursor; MOVE likewise
	KindClose       Kind = "close"       // Name is the cursor, "" for ALL
	KindDiscard     Kind = "discard"     // Name is all, plans, sequences or temp
	KindExplain     Kind = "explain"
	KindCreateTemp  Kind = "create_temp" // Temp is what appears in pg_temp
	KindDDL         Kind = "ddl"         // the catalog changes: pull it again before the next statement
	KindMaintenance Kind = "maintenance" // VACUUM, ANALYZE, REINDEX, LOCK, TRUNCATE, REFRESH, COMMENT, GRANT, CALL
	KindNotify      Kind = "notify"      // NOTIFY, LISTEN, UNLISTEN
	KindEmpty       Kind = "empty"       // nothing but white space and comments
)

// Part is one top-level statement of a text.
type Part struct {
	Kind Kind
	Name string
	// SearchPath is the new search path when Kind is KindSet and Name is
	// "search_path". Nil with Reset means the session's initial one.
	SearchPath []string
	Value      string // the setting's value, when there is one
	Local      bool   // SET LOCAL: until the transaction ends
	Reset      bool   // RESET, or SET … TO DEFAULT
	Prepared   *PreparedEffects
	Temp       *TempRelation // appears in pg_temp when the statement succeeds
	DropsTemp  []string      // leave pg_temp when the statement succeeds
	// ScrubErrors says that an error or notice of this statement may carry values of masked columns.
	ScrubErrors bool
}

// PreparedEffects is what EXECUTE of a statement made by SQL's PREPARE does.
type PreparedEffects struct {
	Effects     []policies.Effect
	ScrubErrors bool
	Masked      bool
	Lookups     int  // values of masked columns that it looks up
	Sensitive   bool // arguments may meet masked columns: they are digested in recordings
}

// TempRelation is a relation in the session's own pg_temp schema.
type TempRelation struct{ Name string }

// Scope is everything beside the text that decides what the text means. The
// caller tracks it; a wrong search path changes which relations are meant, and
// never lets the text and its effects disagree, because names leave qualified.
type Scope struct {
	SearchPath []string // as SHOW search_path would list it; `"$user"` is expanded by the caller
	Temp       []TempRelation
	Prepared   map[string]PreparedEffects
}

// Key identifies the scope for a plan cache: equal keys mean equal scopes.
func (s Scope) Key() string {
	var b strings.Builder
	quote := func(v string) { b.WriteString(strconv.Quote(v)); b.WriteByte(' ') }
	for _, name := range s.SearchPath {
		quote(name)
	}
	b.WriteString("| ")
	temps := make([]string, 0, len(s.Temp))
	for _, t := range s.Temp {
		temps = append(temps, t.Name)
	}
	sort.Strings(temps)
	for _, name := range temps {
		quote(name)
	}
	b.WriteString("| ")
	names := make([]string, 0, len(s.Prepared))
	for name := range s.Prepared {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		p := s.Prepared[name]
		quote(name)
		for _, e := range p.Effects {
			quote(e.Verb)
			quote(e.Object)
			quote(strings.Join(e.Columns, "\x00"))
		}
		b.WriteString(strconv.FormatBool(p.ScrubErrors) + strconv.FormatBool(p.Masked) + strconv.FormatBool(p.Sensitive) + strconv.Itoa(p.Lookups))
	}
	return b.String()
}

// Statement is a text as the guard understood it. When Command.Refusal is set,
// the text must not reach the target and only Recorded is of use.
type Statement struct {
	Command policies.Command
	// Rewritten is what may be sent: the input with qualified names and spliced
	// masks, or the input itself when nothing had to change.
	Rewritten string
	// Recorded and RecordedRewritten are the input and Rewritten with every
	// literal replaced that is a password or may meet a masked column.
	Recorded, RecordedRewritten string
	Parts                       []Part
	// SensitiveParameters are the numbers n of those $n that may meet a masked
	// column: their values are digested in recordings. Ascending.
	SensitiveParameters []int
	// Secrets are the values of the literals that Recorded has digested. An
	// answer that repeats one must not be recorded as it is.
	Secrets []string
	// ScrubErrors says that an error or notice may carry values of masked
	// columns: only the SQLSTATE and a fixed text may leave.
	ScrubErrors bool
	// Masked says that a masked relation was spliced.
	Masked bool
	// Lookups is how many values it looks up in masked columns.
	Lookups int
	// Origins are columns that the description of the answer has to name. When one is
	// missing, the schema is not what it was, and no row of the answer may leave.
	Origins []Origin

	input     string
	edits     []edit
	sensitive bool            // a literal or parameter may meet a masked column
	secret    []token         // ranges of input whose literals are digested
	sought    map[string]bool // values of literals that the guard wrote into sub-selects
	free      map[int]bool    // where constants start that nothing here depends on; nil for none
}

// ShowsPlan says that the answer is a plan which may repeat literals and
// parameters that meet masked columns, so that it must not be recorded as it is.
func (s Statement) ShowsPlan() bool {
	return (s.Masked || s.sensitive) && slices.ContainsFunc(s.Parts, func(p Part) bool { return p.Kind == KindExplain })
}

// MapPosition maps a 1-based character position in Rewritten, as an error
// carries it, to one in the input. It returns 0 for a position inside
// generated text or outside of Rewritten.
func (s Statement) MapPosition(pos int) int {
	if len(s.edits) == 0 {
		if pos < 1 || pos > utf8.RuneCountInString(s.input)+1 {
			return 0
		}
		return pos
	}
	at := byteOffset(s.Rewritten, pos)
	if at < 0 {
		return 0
	}
	shift := 0 // rewritten offset minus input offset, so far
	for _, e := range s.edits {
		start := e.start + shift
		if at < start {
			break
		}
		if at < start+len(e.text) {
			if e.names && at == start {
				return utf8.RuneCountInString(s.input[:e.start]) + 1
			}
			return 0
		}
		shift += len(e.text) - (e.end - e.start)
	}
	if at-shift < 0 || at-shift > len(s.input) {
		return 0
	}
	return utf8.RuneCountInString(s.input[:at-shift]) + 1
}

// byteOffset is the offset of the pos-th character of s, -1 when there is none.
func byteOffset(s string, pos int) int {
	if pos < 1 {
		return -1
	}
	n := 1
	for i := range s {
		if n == pos {
			return i
		}
		n++
	}
	if n == pos {
		return len(s)
	}
	return -1
}
