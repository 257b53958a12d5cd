package main

import (
	"testing"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Who may write a column does not get it masked with hash.
func TestHashedAndWritten(t *testing.T) {
	connection := &reviews.Connection{Spec: reviews.ConnectionSpec{Mask: []reviews.Mask{{Column: "app.customers.email", With: "hash"}, {Column: "app.customers.ssn", With: "redact"}}}}
	for _, tt := range []struct {
		rule reviews.Rule
		want int
	}{
		{reviews.Rule{Verbs: []string{"select"}, On: []string{"app.*"}}, 0}, {reviews.Rule{Verbs: []string{"select", "update"}, On: []string{"app.*"}}, 1},
		{reviews.Rule{Verbs: []string{"insert"}, On: []string{"app.orders", "app.customers"}}, 1}, {reviews.Rule{Verbs: []string{"insert"}, On: []string{"app.orders", "other.*"}}, 0},
		{reviews.Rule{Verbs: []string{"update"}, On: []string{"app.customers"}, Columns: []string{"ssn", "name"}}, 0}, {reviews.Rule{Verbs: []string{"update"}, On: []string{"app.customers"}, Columns: []string{"email"}}, 1},
		{reviews.Rule{Verbs: []string{"delete"}, On: []string{"app.customers"}}, 0},
	} {
		for _, hold := range []bool{false, true} {
			r := &reviews.Review{Source: reviews.Source{Path: "reviews/orders-db/etl.yaml", Lines: map[string]int{"allow[0]": 7, "hold[0]": 8}}}
			line := 7
			if r.Spec.Allow = []reviews.Rule{tt.rule}; hold {
				r.Spec.Allow, r.Spec.Hold, line = nil, []reviews.Rule{tt.rule}, 8
			}
			problems := hashedAndWritten(connection, r)
			if len(problems) != tt.want || tt.want > 0 && problems[0].Position.Line != line {
				t.Errorf("%+v: %v", tt.rule, problems)
			}
			r.Spec.Unmask = []string{"app.customers.email"}
			if len(hashedAndWritten(connection, r)) > 0 {
				t.Errorf("%+v: the column is shown, and refused all the same", tt.rule)
			}
		}
	}
}
