package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Statements that differ in constants are understood once. Each still gets its own
// rows, its own positions of errors, and its own digests in the recording.
func TestStatementsThatDifferInConstants(t *testing.T) {
	w := newWorld(t, variant{masks: canaryMasks})
	conn := w.connect()
	for _, c := range []struct{ text, rows string }{
		{`select id, name from app.customers where id = 1`, "1|name 1"},
		{`select id, name from app.customers where id = 12`, "12|name 12"},
		{`select id, name from app.customers where id = 999`, ""},
		{`select 'a' || '' from app.orders where id = 5`, "a"},
		{`select 'it''s' || 'é' from app.orders where id = 55`, "it'sé"},
		{`select -5, - 7, 1.5 from app.orders where id = 5`, "-5|-7|1.5"},
		{`select -15, - 0, 10.25 from app.orders where id = 50`, "-15|0|10.25"},
		{`select set_config('application_name', 'one', false)`, "one"},
		{`select set_config('application_name', 'other', false)`, "other"},
		{`select name from app.orders o join customers c on c.id = o.customer where o.id = 20`, "name 1"},
		{`select name from app.orders o join customers c on c.id = o.customer where o.id = 2`, "name 3"},
	} {
		if got, err := try(t, conn, c.text); got != c.rows || err != nil {
			t.Errorf("%s: %q %v, want %q", c.text, got, err, c.rows)
		}
	}
	if _, err := try(t, conn, `select set_config('session_authorization', 'postgres', false)`); err == nil {
		t.Error("a setting was taken for another")
	}
	for _, literal := range []string{"'a'", "'rather longer than before'", "'é日本'", "''"} {
		text := `select id from customers where name = ` + literal + ` and nosuchcolumn = 5`
		_, err := try(t, conn, text)
		var e *pgconn.PgError
		if want := len([]rune(text[:strings.Index(text, "nosuch")])) + 1; !asPg(err, &e) || int(e.Position) != want {
			t.Errorf("%s: %v, want position %d", text, err, want)
		}
	}
	for _, secret := range []string{"918-00-1", "918-00-11111", "it''s 918-00-2"} {
		if got, err := try(t, conn, `select id from customers where ssn = '`+secret+`' and id < 1000`); got != "" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	conn.Close(context.Background())
	recorded := w.recorded()
	if strings.Contains(recorded, "918-00") || !strings.Contains(recorded, "where name = 'rather longer") || strings.Count(recorded, "where ssn = 'hmac:") < 3 {
		t.Errorf("the recording has the wrong literals:\n%s", recorded)
	}
}
