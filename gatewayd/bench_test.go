package gatewayd_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
	"github.com/sallyport-dev/sallyport/reviews"
)

// BenchmarkPlan measures one plan, from the cache and not, with few and with
// many reviews loaded. The uncached one parses, splices a mask, parses again and
// asks Rego.
func BenchmarkPlan(b *testing.B) {
	catalog, err := sqlguard.ParseCatalog(readCatalog(b))
	if err != nil {
		b.Fatal(err)
	}
	guard, err := sqlguard.New(catalog, sqlguard.Options{Masks: []sqlguard.Mask{{Column: "app.customers.email", With: "email"}}})
	if err != nil {
		b.Fatal(err)
	}
	classify := func(text string) gatewayd.Understood {
		st := guard.Understand(text, sqlguard.Scope{SearchPath: []string{"app"}})
		return gatewayd.Understood{Command: st.Command, Recorded: st.Recorded, Payload: st}
	}
	for _, count := range []int{100, 10_000} {
		w := newWorld(b)
		w.repo.Review(nightly, 1, "agent:etl", "  allow: [{verbs: [select], on: [app.orders, app.customers]}]\n")
		for i := range count {
			w.repo.Review(fmt.Sprintf("orders-db/r%d", i), 1, "agent:report", "  allow: [{verbs: [select], on: [app.orders]}]\n")
		}
		w.swap()
		s := w.login()
		const text = "select c.id, c.email, o.status from app.customers c join app.orders o on o.customer = c.id where o.id = "
		b.Run(fmt.Sprintf("cached/reviews=%d", count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Plan(gatewayd.Statement{Text: text + "1"}, classify); err != nil {
					b.Fatal(err)
				}
			}
		})
		n := 0 // goes on through -count, which would find the plans of the round before
		b.Run(fmt.Sprintf("uncached/reviews=%d", count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n++
				if _, err := s.Plan(gatewayd.Statement{Text: fmt.Sprint(text, n)}, classify); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func readCatalog(b *testing.B) []byte {
	b.Helper()
	text, err := os.ReadFile("../testdata/access/" + reviews.CatalogPath("orders-db"))
	if err != nil {
		b.Fatal(err)
	}
	return text
}
