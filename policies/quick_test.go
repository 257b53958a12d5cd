package policies

import (
	"context"
	"testing"
	"time"
)

func TestQuick(t *testing.T) {
	p, err := Compile(context.Background(), map[string][]byte{"policies/a.rego": []byte("package access\n\ndeny contains \"no deletes\" if {\n\tsome e in input.command.effects\n\te.verb == \"delete\"\n}\n"),
		"policies/b.rego": []byte("package access\n\nhold contains \"hmm\" if {\n\tsome e in input.command.effects\n\te.verb == \"insert\"\n}\n")})
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Now: time.Now(), Principal: "agent:etl",
		Connection: NewDocument(map[string]any{"name": "db", "spec": map[string]any{"protocol": "postgres"}}),
		Review: NewDocument(map[string]any{"name": "db/r", "spec": map[string]any{"subject": "agent:etl", "connection": "db", "allow": []any{
			map[string]any{"verbs": []any{"select", "insert"}, "on": []any{"app.orders", "crm.*"}},
			map[string]any{"verbs": []any{"update"}, "on": []any{"app.orders"}, "columns": []any{"status"}},
		}}}),
	}
	for _, e := range []Effect{{"select", "app.orders", nil}, {"select", "crm.x", nil}, {"update", "app.orders", []string{"status", "total"}}, {"update", "app.orders", nil}, {"delete", "app.orders", nil}, {"insert", "app.orders", nil}, {"drop", "pg_temp.x", nil}, {"drop", "app.x", nil}} {
		in.Command = Command{Protocol: "postgres", Statement: "x", Effects: []Effect{e}}
		d, err := p.Decide(context.Background(), in)
		t.Log(e, d.Verdict, d, err, p.TimeDependent())
	}
}

func BenchmarkQuick(b *testing.B) {
	p, _ := Compile(context.Background(), nil)
	in := Input{Now: time.Now(), Principal: "agent:etl",
		Connection: NewDocument(map[string]any{"name": "db", "spec": map[string]any{"protocol": "postgres"}}),
		Review: NewDocument(map[string]any{"name": "db/r", "spec": map[string]any{"subject": "agent:etl", "connection": "db", "allow": []any{
			map[string]any{"verbs": []any{"select"}, "on": []any{"app.orders", "app.customers"}},
			map[string]any{"verbs": []any{"update"}, "on": []any{"app.orders"}, "columns": []any{"status"}},
		}, "hold": []any{map[string]any{"verbs": []any{"delete"}, "on": []any{"app.orders"}}}}}),
	}
	in.Command = Command{Protocol: "postgres", Statement: "x", Effects: []Effect{{"select", "app.orders", []string{"id", "status"}}, {"select", "app.customers", []string{"id"}}}}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(context.Background(), in)
	}
}
