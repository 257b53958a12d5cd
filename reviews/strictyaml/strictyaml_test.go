package strictyaml_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

type document struct {
	Name   string            `yaml:"name"`
	Count  int               `yaml:"count"`
	Small  int8              `yaml:"small"`
	On     bool              `yaml:"enabled"`
	At     time.Time         `yaml:"at"`
	List   []string          `yaml:"list"`
	Rules  []rule            `yaml:"rules"`
	Groups map[string]rule   `yaml:"groups"`
	Labels map[string]string `yaml:"labels"`
	Level  level             `yaml:"level"`
	MaxAge string            `yaml:"maxAge"`
	//lint:ignore U1000 nothing may reach it: a file that names it is refused
	hidden  string
	Ignored string `yaml:"-"`
}

type rule struct {
	Allow []string `yaml:"allow"`
	Deep  *struct{}
}

type level string

func (l *level) UnmarshalText(b []byte) error {
	if string(b) != "high" {
		return errors.New("there is only one level; write high")
	}
	*l = level(b)
	return nil
}

func decode(t testing.TB, text string) (document, strictyaml.Lines, strictyaml.Problems) {
	t.Helper()
	var d document
	lines, err := strictyaml.Decode("a.yaml", []byte(text), &d, strictyaml.Options{NotYet: map[string]string{"future": "the future is not supported yet"}})
	if lines == nil {
		t.Fatal("Lines is nil")
	}
	if err == nil {
		return d, lines, nil
	}
	var ps strictyaml.Problems
	if !errors.As(err, &ps) || len(ps) == 0 {
		t.Fatalf("the error is a %T, not Problems", err)
	}
	return d, lines, ps
}

// TestHostile has one row for each way in which YAML lets a file say something
// else than what people see. Every row names position and words of the answer.
func TestHostile(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"duplicate key", "name: a\nname: b\n", `a.yaml:2:1: key "name" is already set on line 1; delete one`},
		{"duplicate key in two styles", "name: a\n\"name\": b\n", `2:1: key "name" is already set`},
		{"duplicate key below an unknown key", "x:\n  z: 1\n  z: 2\n", `3:3: key "z" is already set`},
		{"two documents", "name: a\n---\nname: b\n", "2:1: a second document"},
		{"two documents, first empty", "---\n---\nname: b\n", "2:1: a second document"},
		{"text after the end", "name: a\n...\nname: b\n", "2:1: an end-of-document mark"},
		{"end mark alone", "name: a\n...\n", "2:1: an end-of-document mark"},
		{"content behind the marker", "--- {name: a}\n", "1:4: content behind ---"},
		{"alias", "name: &a x\nmaxAge: *a\n", "1:7: anchors"},
		{"alias too", "name: &a x\nmaxAge: *a\n", "2:9: aliases"},
		{"anchor on a mapping", "groups: &a\n  x: {allow: [a]}\n", "1:9: anchors"},
		{"anchor on a key", "&a name: x\n", "1:1: anchors"},
		{"merge key", "groups:\n  x: {<<: {allow: [a]}}\n", "2:7: merge keys"},
		{"merge key at the top", "<<: {name: a}\n", "1:1: merge keys"},
		{"tag", "name: !!str a\n", "1:7: tags"},
		{"custom tag", "name: !secret a\n", "1:7: tags"},
		{"non-specific tag", "name: ! a\n", "1:7: tags"},
		{"non-specific tag behind wide characters", "labels: {é: ! a}\n", "1:13: tags"},
		{"tag on a list", "list: !!set [a]\n", "1:7: tags"},
		{"binary", "name: !!binary aGVsbG8=\n", "1:7: tags"},
		{"directive", "%YAML 1.1\n---\nname: a\n", "1:1: YAML directives"},
		{"tag directive", "%TAG ! tag:x,2000:\n---\nname: a\n", "1:1: YAML directives"},
		{"yes as text", "name: yes\n", "1:7: text is expected here"},
		{"no as text", "name: no\n", "1:7: text is expected here"},
		{"on as text", "name: on\n", "1:7: text is expected here"},
		{"Off as text", "name: Off\n", "1:7: text is expected here"},
		{"n as text", "name: n\n", "1:7: text is expected here"},
		{"octal as text", "name: 010\n", "1:7: text is expected here"},
		{"sexagesimal as text", "name: 1:30\n", "1:7: text is expected here"},
		{"float as text", "name: 1e3\n", "1:7: text is expected here"},
		{"hex as text", "name: 0x1F\n", "1:7: text is expected here"},
		{"infinity as text", "name: .inf\n", "1:7: text is expected here"},
		{"date as text", "name: 2026-11-23\n", "1:7: text is expected here"},
		{"the default key as text", "name: =\n", "1:7: text is expected here"},
		{"yes as boolean", "enabled: yes\n", "1:10: a boolean is expected"},
		{"True as boolean", "enabled: True\n", "1:10: a boolean is expected"},
		{"quoted boolean", "enabled: \"true\"\n", "1:10: a boolean is expected"},
		{"octal as number", "count: 010\n", "1:8: a whole number"},
		{"0o10 as number", "count: 0o10\n", "1:8: a whole number"},
		{"sexagesimal as number", "count: 1:30\n", "1:8: a whole number"},
		{"float as number", "count: 1e3\n", "1:8: a whole number"},
		{"underscore in a number", "count: 1_000\n", "1:8: a whole number"},
		{"plus sign", "count: +1\n", "1:8: a whole number"},
		{"quoted number", "count: \"1\"\n", "1:8: a whole number"},
		{"minus zero", "count: -0\n", "1:8: a whole number"},
		{"2^63", "count: 9223372036854775808\n", "1:8: the number is too large"},
		{"2^53+1", "count: 9007199254740993\n", "1:8: the number is too large; at most 9007199254740992"},
		{"8 bits", "small: 128\n", "1:8: the number is too large; at most 127"},
		{"23 digits", "count: 12345678901234567890123\n", "1:8: the number is too large"},
		{"carriage return", "name: a\r\nlist: [b]\r\n", "1:8: a carriage return"},
		{"carriage return in a comment", "name: a # x\rcount: 2\n", "1:12: a carriage return"},
		{"NEL in a comment", "name: a # x\u0085count: 2\n", "1:12: a line break other"},
		{"U+2028", "name: a # x\u2028count: 2\n", "1:12: a line break other"},
		{"byte order mark", "\uFEFFname: a\n", "1:1: a byte order mark"},
		{"bidi override", "name: a # \u202e\n", "1:11: a character that changes the direction"},
		{"bidi isolate", "name: \"a\u2066\"\n", "1:9: a character that changes the direction"},
		{"zero width space", "name: a\u200bb\n", "1:8: an invisible character"},
		{"soft hyphen", "name: a\u00adb\n", "1:8: an invisible character"},
		{"variation selector", "name: a\ufe0fb\n", "1:8: an invisible character"},
		{"braille blank", "name: a\u2800b\n", "1:8: an invisible character"},
		{"hangul filler", "name: a\u3164b\n", "1:8: an invisible character"},
		{"NUL", "name: a\x00\n", "1:8: a control character"},
		{"escape", "name: \x1b[31m\n", "1:7: a control character"},
		{"C1 control", "name: \u009b\n", "1:7: a control character"},
		{"not UTF-8", "name: \xff\n", "1:7: byte 0xff is not UTF-8"},
		{"UTF-16", "\xff\xfen\x00a\x00", "1:1: byte 0xff is not UTF-8"},
		{"surrogate", "name: \xed\xa0\x80\n", "1:7: byte 0xed is not UTF-8"},
		{"overlong", "name: \xc0\xaf\n", "1:7: byte 0xc0 is not UTF-8"},
		{"escaped bidi", "name: \"a\\u202eb\"\n", "1:7: the value contains a character that changes"},
		{"escaped NUL", "name: \"a\\0b\"\n", "1:7: the value contains a control character"},
		{"escaped NEL", "name: \"a\\Nb\"\n", "1:7: the value contains a line break"},
		{"tab indentation", "groups:\n\tx: {}\n", "2:1: a tab is used as indentation"},
		{"tab behind a space", "groups:\n \tx: {}\n", "2:2: a tab is used as indentation"},
		{"empty file", "", "1:1: the file is empty"},
		{"only comments", "# hello\n\n", "1:1: the file is empty"},
		{"only a marker", "---\n", "1:1: the file is empty"},
		{"tilde", "~\n", "1:1: the file is empty"},
		{"null", "null\n", "1:1: the file is empty"},
		{"list at the top", "- name: a\n", "1:1: the document has to be a mapping of keys to values, not a list"},
		{"scalar at the top", "hello\n", "1:1: the document has to be a mapping of keys to values, not a single value"},
		{"unknown key", "nmae: a\n", `1:1: unknown field "nmae"; did you mean "name"?`},
		{"other spelling", "max_age: a\n", `1:1: unknown field "max_age"; did you mean "maxAge"?`},
		{"unknown key, nothing close", "zzzzzz: a\n", `1:1: unknown field "zzzzzz"; known here: at, count, enabled`},
		{"unknown key, case", "Name: a\n", `did you mean "name"?`},
		{"unknown key below", "rules:\n  - alow: [a]\n", `2:5: unknown field "alow"; did you mean "allow"?`},
		{"homoglyph key", "n\u0430me: a\n", `1:1: unknown field "n\u0430me"; did you mean "name"?`},
		{"unexported field", "hidden: a\n", "unknown field"},
		{"ignored field", "ignored: a\n", "unknown field"},
		{"planned key", "future: a\n", "1:1: the future is not supported yet"},
		{"missing value", "name:\n", "1:6: the value is missing"},
		{"tilde value", "name: ~\n", "1:7: the value is missing"},
		{"null element", "list: [a, ~]\n", "1:11: the value is missing"},
		{"null list", "list:\n", "1:6: the value is missing"},
		{"set notation", "groups: {a}\n", "the value is missing"},
		{"text for a list", "list: a\n", "1:7: a list is expected here, not a single value"},
		{"list for text", "name: [a]\n", "1:7: one value is expected here, not a list"},
		{"mapping for text", "name: {a: b}\n", "1:7: one value is expected here, not a mapping"},
		{"text for a struct", "rules: [a]\n", "1:9: a mapping of keys to values is expected"},
		{"list for a map", "groups: [a]\n", "1:9: a mapping of names to values is expected"},
		{"boolean key", "labels: {yes: a}\n", "1:10: a name has to be text"},
		{"number key", "labels: {1: a}\n", "1:10: a name has to be text"},
		{"null key", "labels: {~: a}\n", "1:10: a name has to be text"},
		{"list key", "labels: {[a]: b}\n", "1:10: a key has to be text, not a list"},
		{"unquoted time", "at: 2026-11-23T00:00:00Z\n", "1:5: a time has to be quoted"},
		{"time without zone", "at: \"2026-11-23T00:00:00\"\n", "1:5: this is not a time in UTC"},
		{"time with offset", "at: \"2026-11-23T00:00:00+01:00\"\n", "1:5: this is not a time in UTC"},
		{"lower-case time", "at: \"2026-11-23t00:00:00z\"\n", "1:5: this is not a time in UTC"},
		{"fractions", "at: \"2026-11-23T00:00:00.5Z\"\n", "1:5: this is not a time in UTC"},
		{"date only", "at: \"2026-11-23\"\n", "1:5: this is not a time in UTC"},
		{"30 February", "at: \"2026-02-30T00:00:00Z\"\n", "1:5: there is no such day"},
		{"29 February 2027", "at: \"2027-02-29T00:00:00Z\"\n", "1:5: there is no such day"},
		{"leap second", "at: \"2026-12-31T23:59:60Z\"\n", "1:5: there is no such day"},
		{"24 o'clock", "at: \"2026-12-31T24:00:00Z\"\n", "1:5: there is no such day"},
		{"year 9999", "at: \"9999-01-01T00:00:00Z\"\n", "1:5: the year has to be"},
		{"year 0000", "at: \"0000-01-01T00:00:00Z\"\n", "1:5: the year has to be"},
		{"custom text", "level: low\n", "1:8: there is only one level; write high"},
		{"custom text, ambiguous", "level: no\n", "1:8: text is expected here"},
		{"syntax", "name: [a\n", "this is not valid YAML"},
		{"syntax, indentation", "rules:\n  - allow: [a]\n - b\n", "this is not valid YAML"},
		{"depth bomb, flow", "list: " + strings.Repeat("[", 10_001) + "\n", "this is not valid YAML"},
		{"depth bomb, closed", "list: " + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "\n", "nested more than 8 deep"},
		{"depth bomb, block", "list: " + strings.Repeat("- ", 9_000) + "\n", ""},
		{"depth below an unknown key", "x: [[[[[[[[[[[[a]]]]]]]]]]]]\n", "nested more than 8 deep"},
		{"alias bomb", aliasBomb(), "anchors"},
		{"many anchors", "x: [" + strings.Repeat("&a b,", 5_000) + "]\n", "anchors"},
		{"too large", "name: a\n" + strings.Repeat("#", 70_000), "a.yaml: the file has 70008 bytes, at most 65536 are allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, _, ps := decode(t, tt.in)
			if len(ps) == 0 || !strings.Contains(ps.Error(), tt.want) {
				t.Fatalf("want %q among:\n%v", tt.want, ps)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func aliasBomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 60; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	return b.String()
}

// TestWorkIsBounded feeds the largest files that are accepted for reading, of the
// shapes that make YAML readers slow.
func TestWorkIsBounded(t *testing.T) {
	keys := func(n int, key string) string {
		var b strings.Builder
		b.WriteString("labels:\n")
		for i := range n {
			fmt.Fprintf(&b, "  "+key+": v\n", i)
		}
		return b.String()
	}
	var flow strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&flow, "k%d: v,", i)
	}
	tests := []struct {
		name, in string
		problems int
	}{
		{"20,000 known keys", keys(20_000, "k%d"), 0},
		{"20,000 unknown keys", strings.ReplaceAll(keys(20_000, "k%d"), "  k", "k"), 100},
		{"20,000 equal keys", strings.Repeat("name: a\n", 20_000), 100},
		{"20,000 keys in flow", "labels: {" + flow.String() + "}\n", 0},
		{"comments", strings.Repeat("# a\n", 100_000) + "name: a\n", 0},
		{"comments between keys", "labels:\n" + strings.Repeat("  # a\n\n  # b\n", 20_000) + "  a: b\n", 0},
		{"one long scalar", "name: " + strings.Repeat("a ", 200_000) + "a\n", 0},
		{"quotes", "list: [" + strings.Repeat("'', ", 50_000) + "a]\n", 0},
		{"brackets", "list: [" + strings.Repeat("[], ", 50_000) + "a]\n", 100},
		{"question marks", strings.Repeat("? a\n", 50_000), 100},
		{"invisible characters", strings.Repeat("\u200b", 100_000), 100},
		{"bad bytes", strings.Repeat("\xff", 500_000), 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d document
			start := time.Now()
			_, err := strictyaml.Decode("a.yaml", []byte(tt.in), &d, strictyaml.Options{MaxBytes: 1 << 20})
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			var ps strictyaml.Problems
			errors.As(err, &ps)
			if len(ps) != tt.problems {
				t.Errorf("%d problems, want %d, such as %.300v", len(ps), tt.problems, err)
			}
		})
	}
}

func TestValues(t *testing.T) {
	d, lines, ps := decode(t, `---
# A comment, with a ( and a tab	in it.
name: "yes"
count: -9007199254740992
small: 127
enabled: true
at: "2028-02-29T23:59:59Z"
list: [a, 'no', 30m, 127.0.0.1:5432, 6f0c2f5e-1111-4222-8333-444455556666]
rules:
  - allow: [x]
  - {allow: []}
groups:
  a.b: {allow: [z]}
labels:
  "1": a
  k: |
    select 1;
    select 2
level: high
`)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	want := document{
		Name: "yes", Count: -1 << 53, Small: 127, On: true,
		At:     time.Date(2028, 2, 29, 23, 59, 59, 0, time.UTC),
		List:   []string{"a", "no", "30m", "127.0.0.1:5432", "6f0c2f5e-1111-4222-8333-444455556666"},
		Rules:  []rule{{Allow: []string{"x"}}, {Allow: []string{}}},
		Groups: map[string]rule{"a.b": {Allow: []string{"z"}}},
		Labels: map[string]string{"1": "a", "k": "select 1;\nselect 2\n"},
		Level:  "high",
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
	for path, want := range map[string]string{
		"name":              "a.yaml:3:7",
		"list[1]":           "a.yaml:8:11",
		"rules":             "a.yaml:9:1",
		"rules[1]":          "a.yaml:11:5",
		"rules[0].allow[0]": "a.yaml:10:13",
		"rules[1].missing":  "a.yaml:11:5",
		"nothing":           "a.yaml:1:1",
	} {
		if got := lines.At(path).String(); got != want {
			t.Errorf("At(%s) = %s, want %s", path, got, want)
		}
	}
	if lines.Has("nothing") || !lines.Has("rules[0].allow") {
		t.Error("Has is wrong")
	}
}

func TestDefaultsStay(t *testing.T) {
	d := document{Name: "before", Count: 7}
	if _, err := strictyaml.Decode("a.yaml", []byte("count: 8\n"), &d, strictyaml.Options{}); err != nil {
		t.Fatal(err)
	}
	if d.Name != "before" || d.Count != 8 {
		t.Errorf("got %+v", d)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, _, ps := decode(t, "nmae: a\ncount: x\nname: &a b\nname: c\nenabled: no\nlist: [~]\n")
	var places []string
	for _, p := range ps {
		places = append(places, p.Position.String())
	}
	want := []string{"a.yaml:1:1", "a.yaml:2:8", "a.yaml:3:7", "a.yaml:4:1", "a.yaml:5:10", "a.yaml:6:8"}
	if !reflect.DeepEqual(places, want) {
		t.Errorf("got %v\nwant %v", places, want)
	}
}

// TestMessagesKeepValues checks that no message repeats a value: it may be a secret.
func TestMessagesKeepValues(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, in := range []string{
		"count: " + secret, "enabled: " + secret, "at: " + secret, "at: \"" + secret + "\"",
		"list: " + secret, "groups: " + secret, "rules: [" + secret + "]", "level: " + secret,
		"name: !!int " + secret, "name: \"" + secret + "\\0\"", "name: &x " + secret,
	} {
		_, _, ps := decode(t, in+"\n")
		if len(ps) == 0 || strings.Contains(ps.Error(), secret) {
			t.Errorf("%s: %v", in, ps)
		}
	}
}

func TestUnsupportedTargetPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a float field was accepted")
		}
	}()
	var d struct {
		F float64 `yaml:"f"`
	}
	_, _ = strictyaml.Decode("a.yaml", []byte("f: a\n"), &d, strictyaml.Options{})
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"name: a\n", "rules:\n  - allow: [a]\n", "groups: {a: {allow: [b]}}\n", "at: \"2026-11-23T00:00:00Z\"\n",
		"? a\n: b\n", "name: |\n  a\n", "name: >-\n  a\n  b\n", "a: &x [*x]\n", "%YAML 1.1\n---\na: b\n", "{a: b}\n", "!!map {}\n",
		"name: \"\\u202e\"\n", "- - - a\n", "\"name\": 'it''s'\n", "list: [a, b,]\n", "#\n---\n#\nname: x #\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d document
		_, err := strictyaml.Decode("f.yaml", b, &d, strictyaml.Options{})
		if err != nil {
			var ps strictyaml.Problems
			if !errors.As(err, &ps) || len(ps) == 0 || len(ps) > 101 {
				t.Fatalf("error %T %v", err, err)
			}
			return
		}
		if len(strictyaml.CheckText("f.yaml", []byte(d.Name), 1<<20)) > 0 {
			t.Fatalf("accepted the text %q", d.Name)
		}
		if strings.Contains(string(b), "\r") || d.Count > 1<<53 || (!d.At.IsZero() && d.At.Year() > 2199) {
			t.Fatalf("accepted %q", b)
		}
	})
}
