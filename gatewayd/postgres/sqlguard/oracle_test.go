package sqlguard

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// otherValues change every masked value and nothing else.
var otherValues = []string{
	`set session_replication_role = replica`,
	`update app.customers set email = 'q' || 9 - id || '@q', ssn = 'Other-' || 9 - id, salary = 5 - id, balance = id, born = '2001-01-01'::date - id,
		token = ('ffffffff-8273-9182-7391-82739182739' || id)::uuid, notes = '[]', tags = '{}'`,
	`update app.events set secret = 'other'`, `update app.parent set hidden = 'other'`, `update app.generated set pin = 'other'`,
	`set session_replication_role = origin`,
	`refresh materialized view app.customer_mat`, `refresh materialized view app.customer_agg`, `refresh materialized view app.ssn_mat`,
}

// TestOraclesTellNothing sends testdata/oracles.sql, and proves of each question that it is one.
func TestOraclesTellNothing(t *testing.T) {
	t.Parallel()
	one, two := newWorld(t, worldMasks), newWorld(t, worldMasks)
	for _, text := range otherValues {
		if _, _, err := two.exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	one.compact(t)
	two.compact(t)
	lines := corpus(t, "oracles.sql")
	if len(lines) < 30 {
		t.Fatalf("only %d oracles", len(lines))
	}
	for _, line := range lines {
		sequence, unproven := strings.CutPrefix(line, "! ")
		var answers, raw [2]string
		for i, w := range []*world{one, two} {
			w.enter(t, sequence)
			for text := range strings.SplitSeq(sequence, " ;; ") {
				answers[i] += w.told(text)
			}
			w.enter(t, sequence)
			for text := range strings.SplitSeq(sequence, " ;; ") {
				raw[i] += w.direct(text)
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("%s\n  %s\n  %s", sequence, answers[0], answers[1])
		}
		if raw[0] == raw[1] && !unproven {
			t.Errorf("%s\n  tells nothing directly either: %s", sequence, raw[0])
		}
	}
	t.Logf("%d oracles", len(lines))
}

// told is what the client learns of one text: rows, tags and SQLSTATE.
func (w *world) told(text string) string {
	seen, rule, err := w.send(text)
	var pg *pgconn.PgError
	if asPgError(err, &pg) {
		seen += pg.Code
	}
	return rule + seen + "\n"
}
