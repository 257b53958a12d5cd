package sqlguard

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// direct runs a text as it is and returns everything that a client would see of it.
func (w *world) direct(text string) string {
	w.notices = nil
	var seen strings.Builder
	var err error
	if fields := strings.Fields(text); len(fields) > 0 && strings.EqualFold(fields[0], "copy") {
		var out bytes.Buffer
		if strings.Contains(strings.ToLower(text), " from stdin") {
			_, err = w.conn.CopyFrom(context.Background(), strings.NewReader(""), text)
		} else {
			_, err = w.conn.CopyTo(context.Background(), &out, text)
		}
		seen.Write(out.Bytes())
	} else {
		var rows, names []byte
		rows, names, err = w.exec(text)
		seen.Write(rows)
		seen.Write(names)
	}
	seen.WriteString(strings.Join(w.notices, "\n"))
	var pg *pgconn.PgError
	if asPgError(err, &pg) {
		seen.WriteString(pg.Message + pg.Detail + pg.Hint + pg.Where)
	}
	return seen.String()
}

// enter puts the session where a sequence starts.
func (w *world) enter(t *testing.T, sequence string) {
	t.Helper()
	w.reset(t)
	w.guardAgain(t)
	if ownTransaction(sequence) {
		return
	}
	if _, _, err := w.exec("begin"); err != nil {
		t.Fatal(err)
	}
}

// TestEvasionsLeakDirectly proves of each evasion that it shows a canary where nothing is masked.
func TestEvasionsLeakDirectly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, line := range corpus(t, "evasions.sql") {
		if strings.HasPrefix(line, "!") {
			continue
		}
		w.enter(t, line)
		var seen strings.Builder
		for text := range strings.SplitSeq(line, " ;; ") {
			seen.WriteString(w.direct(text) + "\n")
		}
		if leaks(seen.String()) == "" {
			t.Errorf("%s\n  shows no canary: %s", line, seen.String())
		}
	}
}

// TestEvasionsShowNothing sends them through the guard. After a text that is
// refused the rest of its sequence is sent all the same: a client would go on.
func TestEvasionsShowNothing(t *testing.T) {
	t.Parallel()
	lines := corpus(t, "evasions.sql")
	if len(lines) < 300 {
		t.Fatalf("only %d evasions", len(lines))
	}
	w := newWorld(t, worldMasks)
	pulled := w.catalog
	refused := 0
	for _, line := range lines {
		sequence := strings.TrimPrefix(line, "! ")
		w.catalog = pulled
		w.enter(t, sequence)
		for text := range strings.SplitSeq(sequence, " ;; ") {
			st := w.guard.Understand(text, w.scope)
			seen, rule, err := w.send(text)
			if rule != "" {
				refused++
			}
			if form := leaks(seen); form != "" {
				t.Errorf("%s\n  shows %q: %s\n  sent: %s", text, form, seen, st.Rewritten)
			}
			if leaks(st.Recorded) != "" && leaks(text) != "" && st.Masked {
				t.Errorf("%s\n  recorded: %s", text, st.Recorded)
			}
			if rule == "" && err == nil {
				w.repull(t, st.Parts)
			}
		}
	}
	t.Logf("%d evasions, %d texts refused", len(lines), refused)
}
