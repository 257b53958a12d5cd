package policies

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

func BenchmarkParts(b *testing.B) {
	c, err := compileModules(nil, capabilities())
	if err != nil {
		b.Fatal(err)
	}
	in := Input{Now: time.Now(), Principal: "agent:etl",
		Connection: NewDocument(map[string]any{"name": "db", "spec": map[string]any{"protocol": "postgres"}}),
		Review: NewDocument(map[string]any{"name": "db/r", "spec": map[string]any{"subject": "agent:etl", "connection": "db", "allow": []any{
			map[string]any{"verbs": []any{"select"}, "on": []any{"app.orders", "app.customers"}},
			map[string]any{"verbs": []any{"update"}, "on": []any{"app.orders"}, "columns": []any{"status"}},
		}, "hold": []any{map[string]any{"verbs": []any{"delete"}, "on": []any{"app.orders"}}}}}),
	}
	in.Command = Command{Protocol: "postgres", Statement: "x", Effects: []Effect{{"select", "app.orders", []string{"id", "status"}}, {"select", "app.customers", []string{"id"}}}}
	v, _ := in.value()
	for _, q := range []string{"1", "data.sallyport.coverage.covering", "data.sallyport.coverage.holding", "data.sallyport.judgement.denials", "data.sallyport.judgement.for_this_session", "data.sallyport.judgement.granted", "data.sallyport.judgement.must_hold", "data.sallyport.judgement.decision", "data.sallyport.decision"} {
		pq, err := rego.New(rego.Query(q), rego.Compiler(c), rego.StrictBuiltinErrors(true)).PrepareForEval(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(q), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pq.Eval(context.Background(), rego.EvalParsedInput(v))
			}
		})
	}
	b.Run("input", func(b *testing.B) {
		for b.Loop() {
			in.value()
		}
	})
	_ = ast.Null{}
}
