package sqlguard

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/pganalyze/pg_query_go/v6/parser"
	"google.golang.org/protobuf/proto"
)

// treeTexts are texts whose trees have something of everything.
func treeTexts(t testing.TB) []string {
	var texts []string
	for _, line := range slices.Concat(corpus(t, "everyday.sql"), corpus(t, "evasions.sql"), corpus(t, "tools.sql"), corpus(t, "oracles.sql"), evasions, corpus(t, "world.sql")) {
		texts = append(texts, strings.Split(line, " ;; ")...)
	}
	return append(texts, "", ";", "select 1;; select 2",
		"select '\x01\x1f\x7f<>\\\"\b\f\n\r\t/é日本\U0001F600', U&'\\0041\\+01F600', E'\\x01\\u00e9', $$<\\>$$, B'01', X'ff', 1e300, .5, 0, -1, 99999999999999999999, null, true, false",
		`select "q""x\<>", "é".* from "A b"."c<d" as "e\"("f")`)
}

// sameTree compares what parse makes of a text with the parser's own decoding.
func sameTree(t *testing.T, text string) {
	t.Helper()
	want, wantErr := pg.Parse(text)
	got, err := parse(text)
	switch {
	case (err == nil) != (wantErr == nil):
		t.Errorf("%q: %v, want %v", text, err, wantErr)
	case err != nil:
		if err.Error() != wantErr.Error() {
			t.Errorf("%q: %v, want %v", text, err, wantErr)
		}
	case !proto.Equal(got, want):
		t.Errorf("%q: the trees differ\n got %v\nwant %v", text, got, want)
	default:
		sameOutlines(t, text, want)
	}
}

func sameOutlines(t *testing.T, text string, tree *pg.ParseResult) {
	t.Helper()
	list, err := outlines(text)
	if err != nil || len(list) != len(tree.Stmts) {
		t.Fatalf("%q: %d statements, want %d: %v", text, len(list), len(tree.Stmts), err)
	}
	for i, o := range list {
		var want []*pg.RangeVar
		descend(inner(tree.Stmts[i].Stmt), func(m any) bool {
			if r, ok := m.(*pg.RangeVar); ok {
				want = append(want, r)
			}
			return true
		})
		same := func(a, b *pg.RangeVar) bool { return proto.Equal(a, b) }
		seen := make(map[int32]bool) // the parser repeats what stands on the right of (a, b) = (select …)
		o.relations = slices.DeleteFunc(o.relations, func(r *pg.RangeVar) bool {
			again := seen[r.Location]
			seen[r.Location] = true
			return again
		})
		if o.kind != reflect.TypeOf(inner(tree.Stmts[i].Stmt)) || !slices.EqualFunc(o.relations, want, same) {
			t.Errorf("%q: %v of %v, want %v", text, o.kind, o.relations, want)
		}
	}
}

func TestTreeIsTheParsersOwn(t *testing.T) {
	for _, text := range treeTexts(t) {
		sameTree(t, text)
	}
	long := "select " + strings.Repeat("a, ", jsonLimit/3) + "a"
	if len(long) <= jsonLimit {
		t.Fatal("too short")
	}
	sameTree(t, long)
}

// FuzzTree parses what is mostly no SQL.
func FuzzTree(f *testing.F) {
	for i, text := range treeTexts(f) {
		if i%20 == 0 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if prescan(text) == "" {
			sameTree(t, text)
		}
	})
}

// What is cut off, or is no tree, is an error and never a panic.
func FuzzReadTree(f *testing.F) {
	for i, text := range treeTexts(f) {
		if tree, err := parser.ParseToJSON(text); err == nil && i%40 == 0 {
			f.Add(tree)
			f.Add(tree[:len(tree)/2])
		}
	}
	f.Fuzz(func(t *testing.T, tree string) {
		_, err := readTree(tree)
		if _, outlineErr := readOutlines(tree); err == nil && outlineErr != nil {
			t.Errorf("%s: %v", tree, outlineErr)
		}
	})
}

// What the tree's types do not say cannot be looked into, so it is not skipped.
func TestTreeRefusesWhatItDoesNotKnow(t *testing.T) {
	tree, err := parser.ParseToJSON("select a from app.orders where b = -1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTree(tree); err != nil {
		t.Fatal(err)
	}
	for i := range tree {
		if _, err := readTree(tree[:i]); !errors.Is(err, errTree) {
			t.Errorf("cut off at %d: %v", i, err)
		}
	}
	for old, bad := range map[string]string{
		`"relname"`:       `"relnames"`,
		`"AEXPR_OP"`:      `"AEXPR_NEW"`,
		`"relname":"`:     `"relname":1,"x":"`,
		`"inh":true`:      `"inh":1`,
		`"ival":-1`:       `"ival":99999999999`,
		`{"ColumnRef":{`:  `{"RangeVar":{},"ColumnRef":{`, // two of what can be one
		`"sval":"a"`:      `"sval":"\u0161"`,
		`"schemaname":"`:  `"schemaname":"\q`,
		`{"version"`:      ` {"version"`,
		`"SETOP_NONE"}}}`: `"SETOP_NONE"}}}}`,
	} {
		if !strings.Contains(tree, old) {
			t.Errorf("no %s in %s", old, tree)
		}
		if _, err := readTree(strings.Replace(tree, old, bad, 1)); !errors.Is(err, errTree) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
