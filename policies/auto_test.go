package policies

import (
	"strings"
	"testing"
)

func TestAutoApprove(t *testing.T) {
	review := NewDocument(map[string]any{"spec": map[string]any{"allow": []any{map[string]any{"verbs": []any{"select"}}}}})
	connection := NewDocument(map[string]any{"spec": map[string]any{"risk": "low"}})
	const header = "package access\n\nimport rego.v1\n\n"
	for _, tt := range []struct {
		name, rules string
		want, err   string
	}{
		{name: "no such rule", rules: `deny contains "x" if input.command.effects`},
		{name: "true", rules: `auto_approve contains "low risk" if input.connection.spec.risk == "low"`, want: "low risk"},
		{name: "two", rules: "auto_approve contains \"b\"\nauto_approve contains \"a\" if input.review.spec.allow[0].verbs == [\"select\"]", want: "a|b"},
		{name: "false", rules: `auto_approve contains "high risk" if input.connection.spec.risk == "high"`},
		{name: "the time is not told", rules: `auto_approve contains "always" if input.now != ""`},
		{name: "nor a command", rules: `auto_approve contains "always" if input.command`},
		{name: "not a message", rules: `auto_approve contains 1 if true`, err: "not a message"},
		{name: "an empty message", rules: `auto_approve contains " " if true`, err: "not a message"},
		{name: "an error", rules: `auto_approve contains "x" if time.parse_rfc3339_ns("noon") > 0`, err: "time.parse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Compile(t.Context(), map[string][]byte{"policies/auto.rego": []byte(header + tt.rules + "\n")})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.AutoApprove(t.Context(), review, connection)
			if strings.Join(got, "|") != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	for _, rules := range []string{"auto_approve := true", "default auto_approve := false", `auto_approve["x"] := "y"`} {
		if _, err := Compile(t.Context(), map[string][]byte{"policies/auto.rego": []byte(header + rules + "\n")}); err == nil || !strings.Contains(err.Error(), "set of messages") {
			t.Errorf("%s: %v", rules, err)
		}
	}
}
