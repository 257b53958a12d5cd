package postgres

import (
	"strings"
	"testing"
	"time"
)

// Another client changes the schema under a session in ways that no binding by
// position catches. The session notices: it masks what is there now, or ends.
func TestChangesByOthersAreNoticed(t *testing.T) {
	const secret = "918-00-1"
	for name, c := range map[string]struct{ change, text string }{
		"a table takes another's name": {
			`alter table app.orders rename to old_orders; alter table app.customers rename to orders; alter table app.orders rename ssn to status`,
			`select upper(status) || '' from app.orders where id = 1`},
		"a view is replaced": {
			`create or replace view app.names as select id, ssn::text as name from app.customers`,
			`select name || '' from app.names where id = 1`},
		"a column is dropped and one added": {
			`alter table app.customers drop id cascade; alter table app.customers add id int default 1`,
			`select concat(email, name) from app.customers where ssn is null or name <> ''`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, variant{masks: `[{column: app.customers.ssn, with: redact}, {column: app.customers.email, with: redact}]`})
			w.exec(`create view app.names as select id, name from app.customers; grant select on all tables in schema app to ` + w.role)
			conn := w.connect()
			if got, err := try(t, conn, c.text); err != nil || strings.Contains(got, secret) || strings.Contains(got, "canary.example") {
				t.Fatalf("before: %q, %v", got, err)
			}
			w.exec(c.change + `; grant select on all tables in schema app to ` + w.role)
			changed := time.Now()
			until(t, "the change is noticed", func() bool {
				got, err := try(t, conn, c.text)
				leaked := strings.Contains(got, secret) || strings.Contains(got, "canary.example")
				if leaked && time.Since(changed) > 2*lookEvery+time.Second {
					t.Fatalf("%s later: %q", time.Since(changed), got)
				}
				return !leaked && (err != nil || time.Since(changed) > lookEvery)
			})
			if got, err := try(t, conn, c.text); strings.Contains(got, secret) || strings.Contains(got, "canary.example") {
				t.Errorf("after: %q, %v", got, err)
			}
		})
	}
}

// A schema that nobody changes is looked at once a second, and read again for nobody.
func TestAnUnchangedSchemaIsNotReadAgain(t *testing.T) {
	w := &watched{}
	now := time.Now()
	if !w.due(now) || w.due(now.Add(lookEvery/2)) || !w.due(now.Add(lookEvery)) {
		t.Error("looks are not lookEvery apart")
	}
	w.saw("a")
	first := w.count()
	w.saw("a")
	if w.count() != first {
		t.Error("the same mark is a change")
	}
	if w.saw("b"); w.count() != first+1 {
		t.Error("another mark is none")
	}
}
