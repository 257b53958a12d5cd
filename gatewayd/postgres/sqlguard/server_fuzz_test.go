package sqlguard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/policies"
)

// FuzzServer sends what the guard lets pass to a real server, in a transaction that
// is rolled back, and compares: each relation that the server locked must be one
// that the effects name or that such a one consists of, what it wrote must be more
// than a select, its command tags must be those of the statements' kinds, and no byte of the answer may be masked.
//
// Texts are those of the corpora; swap exchanges names in them for others of their
// kind, which keeps most of them SQL. Zero exchanges none.
func FuzzServer(f *testing.F) {
	w := newWorld(f, worldMasks)
	var texts []string
	for _, name := range []string{"everyday.sql", "evasions.sql", "oracles.sql"} {
		for _, line := range corpus(f, name) {
			for text := range strings.SplitSeq(strings.TrimLeft(line, "~! "), " ;; ") {
				texts = append(texts, text)
			}
		}
	}
	for i, text := range texts {
		f.Add(text, uint64(0))
		if i%4 == 0 {
			f.Add(text, uint64(i))
		}
	}
	words := vocabulary(w.catalog)
	f.Fuzz(func(t *testing.T, text string, swap uint64) {
		if swap != 0 {
			text = exchange(text, words, swap)
		}
		st := w.guard.Understand(text, w.scope)
		if st.Command.Refusal != nil || len(text) > 4000 || !slices.ContainsFunc(st.Parts, dryRuns) || slices.ContainsFunc(st.Parts, func(p Part) bool { return !dryRuns(p) }) {
			return
		}
		w.compare(t, text, st)
	})
}

// dryRuns says whether a statement can be rolled back with the transaction around it.
func dryRuns(p Part) bool {
	switch p.Kind {
	case KindSelect, KindInsert, KindUpdate, KindDelete, KindMerge, KindCopyOut, KindExplain, KindDDL, KindCreateTemp, KindDeclare:
		return true
	}
	return false
}

// vocabulary lists, for each name of the catalog, the names of the same kind.
func vocabulary(c *Catalog) map[string][]string {
	var relations, columns []string
	for _, r := range c.Relations {
		if r.Schema == "app" && plainName(r.Name) {
			relations = append(relations, r.Name)
		}
		for _, col := range r.Columns {
			if plainName(col.Name) && !slices.Contains(columns, col.Name) && r.Schema == "app" {
				columns = append(columns, col.Name)
			}
		}
	}
	words := make(map[string][]string)
	for _, kind := range [][]string{
		columns, relations, {"max", "min", "count", "array_agg", "string_agg", "json_agg"}, {"lower", "upper", "md5", "length", "to_jsonb"},
		{"union", "except", "intersect"}, {"left", "right", "full", "inner", "cross", "natural"}, {"customers", "c", "orders", "o", "x"},
	} {
		for _, word := range kind {
			words[word] = append(words[word], kind...)
		}
	}
	return words
}

// exchange replaces about every fourth name that is known.
func exchange(text string, words map[string][]string, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	l, at := lexer{s: text}, 0
	for {
		t, more := l.next()
		if !more {
			return b.String() + text[at:]
		}
		if others := words[strings.ToLower(text[t.start:t.end])]; t.kind == tokWord && len(others) > 0 && r.IntN(4) == 0 {
			b.WriteString(text[at:t.start] + others[r.IntN(len(others))])
			at = t.end
		}
	}
}

// describes are functions and views that open relations to describe them, and show nothing of what they hold.
var describes = regexp.MustCompile(`(?i)pg_get_|pg_(views|rules|matviews|indexes|sequences|publication)|information_schema|_size\b|_is_updatable|pg_partition_|pg_index_|pg_indexam_`)

// takesNumber are functions that give the transaction a number, as writing does.
var takesNumber = regexp.MustCompile(`(?i)txid_current|pg_current_xact_id|nextval|setval`)

const maxAnswer = 4 << 20 // bytes of one answer that are looked at

// compare runs what the guard made of a text and undoes it.
func (w *world) compare(t *testing.T, text string, st Statement) {
	ctx := context.Background()
	if w.conn.IsClosed() || w.conn.TxStatus() != 'I' {
		w.conn.Close(ctx)
		var err error
		if w.conn, err = pgconn.ConnectConfig(ctx, w.config); err != nil {
			t.Fatal(err)
		}
	}
	w.reset(t)
	if _, _, err := w.exec("begin; set local statement_timeout = 2000"); err != nil {
		t.Fatal(err)
	}
	w.notices = nil
	seen, tags, err := w.answers(st)
	if err == nil {
		w.agrees(t, text, st, tags)
	}
	told := strings.Join(w.notices, " ")
	if err != nil {
		told += err.Error()
		if pg := (*pgconn.PgError)(nil); asPgError(err, &pg) {
			told += pg.Detail + pg.Hint + pg.Where
		}
	}
	if !st.ScrubErrors {
		seen += told
	}
	if form := leaks(seen); form != "" && leaks(text) == "" {
		t.Errorf("%s\n  shows %s: %.500q\n  sent: %s", text, form, seen, st.Rewritten)
	}
	if _, _, err := w.exec("rollback"); err != nil {
		w.conn.Close(ctx)
	}
}

// answers sends a text and returns the rows and the command tags.
func (w *world) answers(st Statement) (string, []string, error) {
	ctx := context.Background()
	var out bytes.Buffer
	if st.Parts[0].Kind == KindCopyOut {
		tag, err := w.conn.CopyTo(ctx, &out, st.Rewritten)
		return out.String(), []string{tag.String()}, err
	}
	results := w.conn.Exec(ctx, st.Rewritten)
	var tags []string
	for results.NextResult() {
		r := results.ResultReader()
		for _, field := range r.FieldDescriptions() {
			out.WriteString(field.Name + " ")
		}
		for r.NextRow() && out.Len() < maxAnswer {
			for _, v := range r.Values() {
				out.Write(append(v, ' '))
			}
		}
		if out.Len() >= maxAnswer {
			w.conn.Close(ctx)
			return out.String(), nil, fmt.Errorf("a long answer")
		}
		tag, _ := r.Close()
		tags = append(tags, tag.String())
	}
	return out.String(), tags, results.Close()
}

// agrees compares what the server did in this transaction with what the guard said.
func (w *world) agrees(t *testing.T, text string, st Statement, tags []string) {
	if len(tags) != len(st.Parts) {
		t.Errorf("%s\n  %d statements gave the tags %q", text, len(st.Parts), tags)
		return
	}
	for i, p := range st.Parts {
		want := map[Kind]string{KindSelect: "SELECT", KindInsert: "INSERT", KindUpdate: "UPDATE", KindDelete: "DELETE", KindMerge: "MERGE", KindCopyOut: "COPY",
			KindDeclare: "DECLARE CURSOR", KindExplain: "EXPLAIN"}[p.Kind]
		if !strings.HasPrefix(tags[i], want) {
			t.Errorf("%s\n  is %q to the server, not %q", text, tags[i], want)
		}
	}
	raw, _, err := w.exec("select pg_catalog.json_build_object('locks', (" + locksQuery + "), 'wrote', pg_catalog.pg_current_xact_id_if_assigned() is not null)")
	if err != nil {
		t.Fatal(err)
	}
	var did struct {
		Locks [][2]string
		Wrote bool
	}
	if err := json.Unmarshal(raw, &did); err != nil {
		t.Fatal(err)
	}
	effects := st.Command.Effects
	changes := slices.ContainsFunc(effects, func(e policies.Effect) bool { return e.Verb != "select" }) ||
		slices.ContainsFunc(st.Parts, func(p Part) bool { return p.Temp != nil || len(p.DropsTemp) > 0 })
	if did.Wrote && !changes && !takesNumber.MatchString(text) {
		t.Errorf("%s\n  the server wrote, the effects are %v\n  sent: %s", text, effects, st.Rewritten)
	}
	for _, l := range did.Locks {
		writes := l[1] != "AccessShareLock"
		if l[1] == "AccessShareLock" && describes.MatchString(text) {
			continue
		}
		nothing := l[1] == "RowExclusiveLock" && st.Parts[0].Kind == KindMerge // whose actions may all be DO NOTHING
		named := slices.ContainsFunc(effects, func(e policies.Effect) bool {
			return (e.Verb != "select" || !writes || nothing) && (e.Object == l[0] || below(w.catalog, e.Object, l[0], make(map[string]bool)))
		})
		if !named && w.catalog.related(l[0]) != nil && !(writes && l[0] == "app.orders") { // a foreign key's check locks rows of orders
			t.Errorf("%s\n  the server took %s on %s, the effects are %v\n  sent: %s", text, l[1], l[0], effects, st.Rewritten)
		}
	}
}
