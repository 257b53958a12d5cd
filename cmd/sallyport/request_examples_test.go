package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// The examples that request writes come to what they say, also for a table that
// inherits masked columns.
func TestWrittenExamplesHold(t *testing.T) {
	b, err := os.ReadFile("../../testdata/access/" + reviews.CatalogPath("orders-db"))
	if err != nil {
		t.Fatal(err)
	}
	var catalog map[string]any
	if err := json.Unmarshal(b, &catalog); err != nil {
		t.Fatal(err)
	}
	relations := catalog["relations"].([]any)
	child := map[string]any{}
	for name, value := range relations[0].(map[string]any) {
		child[name] = value
	}
	child["name"], child["parents"] = "child", []string{"app.customers"}
	catalog["relations"] = append(relations, child)
	target := &reviews.Connection{Metadata: reviews.Metadata{Name: "orders-db"}}
	target.Spec.Protocol, target.Spec.Target.User = "postgres", "gateway"
	target.Spec.Mask = []reviews.Mask{{Column: "app.customers.email", With: "email"}}
	if target.Catalog, err = json.Marshal(catalog); err != nil {
		t.Fatal(err)
	}
	policy, err := policies.Compile(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for relation, want := range map[string]string{"app.customers": "mask", "app.child": "mask", "app.orders": "allow"} {
		r := &reviews.Review{Metadata: reviews.Metadata{Name: "orders-db/etl"}}
		r.Spec.Subject, r.Spec.Connection = "agent:etl", "orders-db"
		r.Spec.Allow = []reviews.Rule{{Verbs: []string{"select"}, On: []string{relation}}}
		r.Spec.Examples = examplesFor(r, target)
		if len(r.Spec.Examples) != 2 || r.Spec.Examples[0].Expect != want {
			t.Errorf("%s: %+v", relation, r.Spec.Examples)
		}
		outcomes, problems, err := ci.Options{Classifiers: classifiers()}.Examples(t.Context(), policy, target, r)
		if err != nil || len(problems) > 0 || len(outcomes) != 2 {
			t.Fatalf("%s: %v %v", relation, problems, err)
		}
		for _, o := range outcomes {
			if !o.Passed {
				t.Errorf("%s: %s", o.Run, o.Message)
			}
		}
	}
}
