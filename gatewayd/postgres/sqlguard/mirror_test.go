package sqlguard

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// newMirror makes a world like another one whose masked cells hold their masks:
// what a direct connection answers there is what the guard must answer here.
func newMirror(t *testing.T, w *world) *world {
	t.Helper()
	m := newWorld(t, nil)
	statements := []string{"set session_replication_role = replica", "alter table app.customers drop constraint customers_email_key"}
	for _, k := range sortedKeys(w.guard.masked) {
		r := w.guard.masked[k]
		if r.system || r.rel.Kind != "r" {
			continue
		}
		var set []string
		for _, col := range r.rel.Columns {
			if with := r.with[col.Name]; with != "" && col.Generated == "" {
				expr, err := w.guard.masker.expression(col, with, quoteIdent(col.Name))
				if err != nil {
					t.Fatal(err)
				}
				set = append(set, quoteIdent(col.Name)+" = "+expr)
			}
		}
		statements = append(statements, "update only "+quoteQualified(r.rel.Schema, r.rel.Name)+" set "+strings.Join(set, ", "))
	}
	for _, text := range append(statements, "set session_replication_role = origin") {
		if _, _, err := m.exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	for _, one := range []*world{w, m} {
		for _, r := range one.catalog.Relations {
			if r.Kind == "m" {
				if _, _, err := one.exec("refresh materialized view " + quoteQualified(r.Schema, r.Name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		one.compact(t)
	}
	return m
}

// answer is everything that a client sees of one text, rows in sorted order.
func (w *world) answer(text string) string {
	if fields := strings.Fields(text); len(fields) > 0 && strings.EqualFold(fields[0], "copy") {
		var out bytes.Buffer
		tag, err := w.conn.CopyTo(context.Background(), &out, text)
		lines := strings.Split(out.String(), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n") + tag.String() + w.failure(err)
	}
	results := w.conn.Exec(context.Background(), text)
	var all strings.Builder
	for results.NextResult() {
		r := results.ResultReader()
		for _, f := range r.FieldDescriptions() {
			oid := f.DataTypeOID
			if oid >= 16384 || oid == 2249 || oid == 1009 {
				oid = 0 // a row type, or an array of a domain, is one of its plain type here
			}
			fmt.Fprintf(&all, "%s:%d:%d ", f.Name, oid, f.TypeModifier)
		}
		var rows []string
		for r.NextRow() {
			var row strings.Builder
			for _, v := range r.Values() {
				if v == nil {
					row.WriteString("NULL|")
				} else {
					fmt.Fprintf(&row, "%q|", v)
				}
			}
			rows = append(rows, row.String())
		}
		slices.Sort(rows)
		tag, _ := r.Close()
		fmt.Fprintf(&all, "\n%s\n%s\n", strings.Join(rows, "\n"), tag)
	}
	return all.String() + w.failure(results.Close())
}

// failure is an error as an answer shows it; where it points to is kept.
func (w *world) failure(err error) string {
	var pg *pgconn.PgError
	w.position = 0
	if asPgError(err, &pg) {
		w.position = int(pg.Position)
		return "ERROR " + pg.Code + " " + pg.Message
	}
	if err != nil {
		return "ERROR " + err.Error()
	}
	return ""
}

// TestEverydayAnswersAsDirect sends testdata/everyday.sql.
func TestEverydayAnswersAsDirect(t *testing.T) {
	t.Parallel()
	lines := corpus(t, "everyday.sql")
	if len(lines) < 150 {
		t.Fatalf("only %d everyday statements", len(lines))
	}
	w := newWorld(t, worldMasks)
	m := newMirror(t, w)
	for _, line := range lines {
		compare(t, w, m, line)
	}
	t.Logf("%d statements", len(lines))
}

// compare sends a sequence through the guard and another directly, and compares what comes back.
func compare(t *testing.T, w, direct *world, line string) {
	t.Helper()
	sequence, onlyRuns := strings.CutPrefix(line, "~")
	texts := strings.Split(sequence, " ;; ")
	direct.enter(t, sequence)
	var want []string
	for _, text := range texts {
		answer := direct.answer(text)
		if strings.Contains(answer, "ERROR") {
			t.Errorf("%s\n  fails directly: %s", text, answer)
			return
		}
		want = append(want, answer)
	}
	direct.reset(t)
	w.enter(t, sequence)
	for i, text := range texts {
		st := w.guard.Understand(text, w.scope)
		if r := st.Command.Refusal; r != nil {
			t.Errorf("%s\n  refused: %s: %s", text, r.Rule, r.Reason)
			return
		}
		got := w.answer(st.Rewritten)
		if form := leaks(got); form != "" {
			t.Errorf("%s\n  shows %q: %s\n  sent: %s", text, form, got, st.Rewritten)
		}
		if got != want[i] && (!onlyRuns || strings.Contains(got, "ERROR")) {
			t.Errorf("%s\n  got  %s\n  want %s\n  sent: %s", text, got, want[i], st.Rewritten)
			return
		}
		w.track(st.Parts)
		w.repull(t, st.Parts)
	}
}

// sibling is another session of the same database.
func (w *world) sibling(t *testing.T) *world {
	t.Helper()
	s := &world{config: w.config, catalog: w.catalog, masks: w.masks}
	var err error
	if s.conn, err = pgconn.ConnectConfig(t.Context(), w.config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close(context.Background()) })
	return s
}

// repull follows a change of the catalog, as an engine does.
func (w *world) repull(t *testing.T, parts []Part) {
	t.Helper()
	if !slices.ContainsFunc(parts, func(p Part) bool { return p.Kind == KindDDL }) || w.conn.TxStatus() == 'E' {
		return
	}
	before, _, err := w.exec("show search_path")
	if err != nil {
		t.Fatal(err)
	}
	w.catalog = w.pull(t)
	if _, _, err := w.exec("select pg_catalog.set_config('search_path', " + quoteLiteral(string(before)) + ", false)"); err != nil {
		t.Fatal(err)
	}
	w.guardAgain(t)
}

// ownTransaction says whether a sequence cannot run inside a transaction, or makes its own.
func ownTransaction(sequence string) bool {
	first := strings.ToLower(sequence)
	for _, word := range []string{"begin", "start", "discard", "vacuum", "commit", "rollback", "checkpoint", "prepare transaction"} {
		if strings.HasPrefix(first, word) {
			return true
		}
	}
	return false
}
