package sqlguard

import (
	"os"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
)

func fuzzCatalog(f *testing.F) ([]byte, *Catalog) {
	f.Helper()
	b, err := os.ReadFile("../../../testdata/access/connections/orders-db.catalog.json")
	if err != nil {
		f.Fatal(err)
	}
	c, err := ParseCatalog(b)
	if err != nil {
		f.Fatal(err)
	}
	return b, c
}

// Whatever a client sends, it is understood or refused with a reason; what is sent instead is SQL, and no
// reference to a masked relation is left in it but inside its own mask.
func FuzzUnderstand(f *testing.F) {
	_, catalog := fuzzCatalog(f)
	guard, err := New(catalog, Options{Masks: []Mask{{Column: "app.customers.email", With: "email"}, {Column: "app.customers.ssn", With: "last4"}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range corpus(f, "everyday.sql")[:60] {
		f.Add(text)
	}
	for _, text := range []string{
		"select 1; drop table app.orders", "select $$a$$", "select U&'\\0061'", "/* /* */", "select c from app.customers c", "with x as (select 1) select * from x",
		"copy app.customers to stdout", "explain select * from app.customers", "prepare p as select ssn from app.customers", "do $$begin end$$", "select '\x00'", strings.Repeat("(", 300),
		"declare c cursor for select email from app.customers", "select (select ssn from app.customers limit 1)", "set search_path = pg_temp", "table app.customers",
	} {
		f.Add(text)
	}
	scope := Scope{SearchPath: []string{"app", "public"}}
	f.Fuzz(func(t *testing.T, text string) {
		st := guard.Understand(text, scope)
		if r := st.Command.Refusal; r != nil {
			if r.Rule == "" || r.Reason == "" || st.Rewritten != "" {
				t.Fatalf("refused without a reason, or sent all the same: %+v %q", r, st.Rewritten)
			}
			return
		}
		if _, err := pg.Parse(st.Rewritten); err != nil {
			t.Fatalf("%q becomes %q: %v", text, st.Rewritten, err)
		}
		if again := guard.Understand(text, scope); again.Rewritten != st.Rewritten || len(again.Command.Effects) != len(st.Command.Effects) {
			t.Fatalf("%q is understood in two ways", text)
		}
	})
}

// Tokens come in order, cover what is no blank, and end.
func FuzzLexer(f *testing.F) {
	for _, text := range []string{"select 'a''b', E'\\'', $x$ $y$ $x$, U&\"a\" -- c\n/* /* */ */ ::int", "$1$1", "'", "\"", "/*", "$$", "e'\\", "\xff", "a.b[1]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, end := lexer{s: text}, 0
		for {
			token, more := l.next()
			if !more {
				break
			}
			if token.start < end || token.end <= token.start || token.end > len(text) {
				t.Fatalf("%q: token %+v behind %d", text, token, end)
			}
			end = token.end
		}
		prescan(text)
		splitName(text)
		splitSearchPath(text)
	})
}

// A catalog that is accepted is its own canonical form, and a guard can be made of it or says why not.
func FuzzCatalog(f *testing.F) {
	b, _ := fuzzCatalog(f)
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(`{"format":4,"relations":[null]}`))
	f.Add([]byte(strings.Replace(string(b), `"customers"`, `"cust\u0000omers"`, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCatalog(b)
		if err != nil {
			return
		}
		again, err := ParseCatalog(c.JSON())
		if err != nil || again.Fingerprint() != c.Fingerprint() {
			t.Fatalf("the canonical form is not canonical: %v", err)
		}
		guard, err := New(c, Options{Masks: []Mask{{Column: "app.customers.email", With: "email"}}})
		if err != nil {
			return
		}
		for _, text := range []string{"select * from app.customers", "select email from app.customers c join app.orders o on o.customer = c.id"} {
			if st := guard.Understand(text, Scope{SearchPath: []string{"app"}}); st.Command.Refusal == nil && st.Rewritten == text {
				t.Fatalf("%q would be sent as it is", text)
			}
		}
	})
}
