package sqlguard

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// benchStatements are as long as their names say, in bytes, give or take a tenth.
var benchStatements = map[string]string{
	// A masked column is read, so the relation is spliced and the result parsed again.
	"spliced/100B": `select c.id, c.name, c.email, o.status from customers c join orders o on o.customer = c.id where o.id = 42`,
	// The masked relation stays: none of its masked columns is named.
	"unreached/100B": `select c.id, c.name, o.status, o.total from customers c join orders o on o.customer = c.id where o.id = 42`,
	// No masked relation.
	"unmasked/100B": `select o.id, o.status, o.total, o.customer from app.orders o where o.status = 'new' and o.total > 42 limit 10`,
	"lookup/60B":    `SELECT total FROM app.orders WHERE id = 42 and status = 'new'`,
	"spliced/2kB": `with recent as (select o.id, o.customer, o.status, o.total from orders o where o.status in ('new', 'paid', 'sent') and o.total > 10)
		select c.id, c.name, c.email, count(r.id) as orders, sum(r.total) as spent, avg(r.total) as mean
		from customers c join recent r on r.customer = c.id
		where ` + strings.Repeat(`(c.name like 'A%' or c.id between 10 and 20 or r.status = 'paid' and r.total > 100.5) and `, 17) + `r.id > 0
		group by c.id, c.name, c.email having count(r.id) > 1 order by spent desc, c.name limit 100`,
	"unmasked/2kB": `select o.id, o.status, o.total from app.orders o where ` +
		strings.Repeat(`(o.status like 'A%' or o.id between 10 and 20 or o.status = 'paid' and o.total > 100.5) and `, 21) + `o.id > 0 order by o.total limit 100`,
}

// BenchmarkGuard measures one uncached Understand, on a connection with masks.
// Its promise is p50 ≤ 150 µs at 100 bytes and ≤ 1 ms at 2 kB.
func BenchmarkGuard(b *testing.B) {
	text, err := os.ReadFile("../../../testdata/access/connections/orders-db.catalog.json")
	if err != nil {
		b.Fatal(err)
	}
	catalog, err := ParseCatalog(text)
	if err != nil {
		b.Fatal(err)
	}
	identities := &Identities{relations: make(map[string]*identity)} // as a server would have them
	for i, r := range catalog.Relations {
		id := &identity{relation: uint32(16384 + i)}
		for n, col := range r.Columns {
			id.columns, id.numbers = append(id.columns, col.Name), append(id.numbers, int16(n+1))
		}
		identities.relations[key(r.Schema, r.Name)] = id
	}
	g, err := New(catalog, Options{Masks: []Mask{{Column: "app.customers.email", With: "email"}}, Identities: identities})
	if err != nil {
		b.Fatal(err)
	}
	scope := Scope{SearchPath: []string{"app", "public"}}
	for _, name := range sortedKeys(benchStatements) {
		b.Run(name, func(b *testing.B) {
			text := benchStatements[name]
			if st := g.Understand(text, scope); st.Command.Refusal != nil || strings.HasPrefix(name, "spliced") != strings.Contains(st.Rewritten, "sallyport_source") {
				b.Fatalf("%v: %s", st.Command.Refusal, st.Rewritten)
			}
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				g.Understand(text, scope)
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
		})
	}
}
