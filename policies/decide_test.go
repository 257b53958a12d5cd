package policies

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

func testInput(effects ...Effect) Input {
	return Input{
		Now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Principal: "agent:etl",
		Connection: NewDocument(map[string]any{"name": "db", "spec": map[string]any{"protocol": "postgres"}}),
		Review: NewDocument(map[string]any{"name": "db/r", "spec": map[string]any{
			"subject": "agent:etl", "connection": "db",
			"allow": []any{
				map[string]any{"verbs": []any{"select"}, "on": []any{"app.orders", "crm.*"}},
				map[string]any{"verbs": []any{"update"}, "on": []any{"app.orders"}, "columns": []any{"status"}},
				map[string]any{"verbs": []any{"notify"}, "on": []any{"app.orders"}},
			},
			"hold": []any{map[string]any{"verbs": []any{"truncate"}, "on": []any{"app.orders"}}},
		}}),
		Command: Command{Protocol: "postgres", Statement: "x", Effects: effects},
	}
}

var testPolicies = map[string][]byte{
	"policies/a.rego": []byte("package access\n\ndeny contains \"no deletes\" if {\n\tsome e in input.command.effects\n\te.verb == \"delete\"\n}\n"),
	"policies/b.rego": []byte("package access\n\nhold contains \"a person looks\" if {\n\tsome e in input.command.effects\n\te.object == \"crm.held\"\n}\n"),
}

// What each rule of the library means is tested in library/decision_test.rego;
// here it is what Decide hands to Rego and makes of the answer.
func TestDecide(t *testing.T) {
	p, err := Compile(t.Context(), testPolicies)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		effects []Effect
		verdict Verdict
		rule    string
		says    string
	}{
		{"no effect", []Effect{}, Allow, "no_effects", ""},
		{"nil effects", nil, Allow, "no_effects", ""},
		{"allowed", []Effect{{"select", "app.orders", nil}}, Allow, "allow[0]", ""},
		{"listed column", []Effect{{"update", "app.orders", []string{"status"}}}, Allow, "allow[1]", ""},
		{"another column", []Effect{{"update", "app.orders", []string{"status", "total"}}}, Deny, "default", "columns"},
		{"unknown columns", []Effect{{"update", "app.orders", nil}}, Deny, "default", "name its columns"},
		{"no object", []Effect{{"select", "", nil}}, Deny, "default", ""},
		{"notify has no object", []Effect{{"notify", "", nil}}, Allow, "allow[2]", ""},
		{"held by the review", []Effect{{"truncate", "app.orders", nil}}, Hold, "hold[0]", ""},
		{"held by the owner", []Effect{{"select", "crm.held", nil}}, Hold, "policies/b.rego", "a person looks"},
		{"denied by the owner", []Effect{{"delete", "app.orders", nil}}, Deny, "policies/a.rego", "no deletes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := p.Decide(t.Context(), testInput(c.effects...))
			if err != nil || d.Verdict != c.verdict || d.Rule != c.rule || !strings.Contains(d.Reason, c.says) {
				t.Errorf("%+v, %v; want %s by %s", d, err, c.verdict, c.rule)
			}
		})
	}
}

// Whatever goes wrong is a denial.
func TestDecideFailsClosed(t *testing.T) {
	deny := func(body string) map[string][]byte {
		return map[string][]byte{"policies/a.rego": []byte("package access\n\n" + body + "\n")}
	}
	for name, sources := range map[string]map[string][]byte{
		"builtin error":      deny(`deny contains "x" if time.parse_rfc3339_ns(input.command.statement) > 5`),
		"message not a text": deny(`deny contains 7 if true`),
		"empty message":      deny(`hold contains "" if true`),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(t.Context(), sources)
			if err != nil {
				t.Fatal(err)
			}
			if d, _ := p.Decide(t.Context(), testInput(Effect{"select", "app.orders", nil})); d.Verdict != Deny || d.Rule != RulePolicyError {
				t.Errorf("decided %+v", d)
			}
		})
	}
	p, err := Compile(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	in := testInput(Effect{"select", "app.orders", nil})
	for name, change := range map[string]func(*Input){
		"no review":         func(in *Input) { in.Review = nil },
		"no connection":     func(in *Input) { in.Connection = nil },
		"another principal": func(in *Input) { in.Principal = "agent:other" },
		"another protocol":  func(in *Input) { in.Command.Protocol = "ssh" },
		"refused":           func(in *Input) { in.Command.Refusal = &Refusal{Rule: "unsupported_statement", Reason: "DO"} },
	} {
		bad := in
		change(&bad)
		if d, _ := p.Decide(t.Context(), bad); d.Verdict != Deny {
			t.Errorf("%s: decided %+v", name, d)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if d, err := p.Decide(ended, in); d.Verdict != Deny || err == nil {
		t.Errorf("after the deadline: %+v, %v", d, err)
	}
}

// An evaluation that is given up also ends, and frees its slot.
func TestDeadlineStopsTheEvaluation(t *testing.T) {
	p, err := Compile(t.Context(), map[string][]byte{"policies/a.rego": []byte(`package access

deny contains "never" if {
	letters := split(input.command.statement, "")
	some a in letters
	some b in letters
	some c in letters
	some d in letters
	concat("", [a, b, c, d]) == "over"
}
`)})
	if err != nil {
		t.Fatal(err)
	}
	p.timeout = 20 * time.Millisecond
	in := testInput(Effect{"select", "app.orders", nil})
	in.Command.Statement = strings.Repeat("x", 5000)
	if d, err := p.Decide(t.Context(), in); d.Verdict != Deny || d.Rule != RulePolicyError || err == nil {
		t.Errorf("decided %+v, %v", d, err)
	}
	for range cap(p.evaluations) {
		select {
		case p.evaluations <- struct{}{}:
		case <-time.After(30 * time.Second):
			t.Fatal("the evaluation goes on")
		}
	}
}

func TestPoliciesThatDoNotCompile(t *testing.T) {
	for name, source := range map[string]string{
		"reaches out":           "package access\n\ndeny contains \"x\" if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"})\n",
		"reads the environment": "package access\n\ndeny contains \"x\" if opa.runtime().env.HOME\n",
		"has its own clock":     "package access\n\ndeny contains \"x\" if time.now_ns() > 5\n",
		"has no bound":          "package access\n\ndeny contains \"x\" if bits.lsh(1, 100000000000) > 5\n",
		"defines the decision":  "package sallyport.decision\n\nverdict := \"allow\"\n",
		"another package":       "package other\n\nx := 1\n",
		"syntax":                "package access\n\ndeny contains if if\n",
	} {
		_, err := Compile(t.Context(), map[string][]byte{"policies/a.rego": []byte(source)})
		if err == nil || !strings.Contains(err.Error(), "policies/a.rego:") {
			t.Errorf("%s: err = %v, want one with its place", name, err)
		}
	}
}

func TestTimeDependent(t *testing.T) {
	for source, want := range map[string]bool{
		`deny contains "x" if input.command.statement == "x"`:         false,
		`deny contains "x" if startswith(input.now, "2026")`:          true,
		`deny contains "x" if f(input)` + "\n\nf(i) if i.now != \"\"": true,
	} {
		p, err := Compile(t.Context(), map[string][]byte{"policies/a.rego": []byte("package access\n\n" + source + "\n")})
		if err != nil {
			t.Fatal(err)
		}
		if p.TimeDependent() != want {
			t.Errorf("TimeDependent of %s = %v", source, !want)
		}
	}
}

func TestReadsStatement(t *testing.T) {
	for source, want := range map[string]bool{
		`deny contains "x" if input.command.statement == "x"`:                                                  true,
		`deny contains "x" if input.command["statement"] == "x"`:                                               true,
		`deny contains "x" if contains(lower(input.command.statement), "drop")`:                                true,
		`deny contains "x" if { c := input.command; c.statement == "x" }`:                                      true,
		`deny contains "x" if { some k in ["statement"]; input.command[k] == "x" }`:                            true,
		`deny contains "x" if { some k, v in input.command; v == "x" }`:                                        true,
		`deny contains "x" if { some k in ["command"]; input[k].statement == "x" }`:                            true,
		`deny contains "x" if f(input)` + "\n\nf(i) if i.command.statement != \"\"":                            true,
		`deny contains "x" if object.get(input, ["command", "statement"], "") == "x"`:                          true,
		`deny contains "x" if json.marshal(input.command) == "x"`:                                              true,
		`deny contains "x" if data.access.text == "x"` + "\n\ntext := input.command.statement":                 true,
		`deny contains "x" if not p with input.command.statement as "y"` + "\n\np if input.principal == \"a\"": true,
		`deny contains "x" if { some e in input.command.effects; e.verb == "delete" }`:                         false,
		`deny contains "x" if input.principal == "statement"`:                                                  false,
	} {
		p, err := Compile(t.Context(), map[string][]byte{"policies/a.rego": []byte("package access\n\n" + source + "\n")})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if p.ReadsStatement() != want {
			t.Errorf("ReadsStatement of %s = %v", source, !want)
		}
	}
}

// ReadsStatement looks at owners' rules: the library itself must not read the text.
func TestLibraryReadsNoStatement(t *testing.T) {
	for file, module := range libraryModules() {
		ast.WalkTerms(module, func(term *ast.Term) bool {
			if term.Equal(statementKey) {
				t.Errorf("%s names statement", file)
			}
			return false
		})
	}
}
