package sqlguard

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/pganalyze/pg_query_go/v6/parser"
	"google.golang.org/protobuf/proto"
)

// wireNames lists what the encoded tree of a text refers to, statement by statement.
func wireNames(tree []byte) (kinds []string, relations []string, err error) {
	statements, err := wireStatements(tree)
	for _, s := range statements {
		kind := ""
		if s.holds != nil {
			kind = s.holds.name
		}
		kinds = append(kinds, kind)
		err = errors.Join(err, s.relations(func(r *pg.RangeVar) error {
			relations = append(relations, relationKey(r))
			return nil
		}))
	}
	return kinds, relations, err
}

// The encoded tree tells the same as the one built of structs.
func TestWireAgreesWithTheTree(t *testing.T) {
	compared := 0
	for _, text := range slices.Concat(corpus(t, "everyday.sql"), corpus(t, "evasions.sql"), evasions) {
		encoded, err := parser.ParseToProtobuf(text)
		if err != nil {
			continue // some evasions are no SQL
		}
		tree := &pg.ParseResult{}
		if err := proto.Unmarshal(encoded, tree); err != nil {
			t.Fatal(err)
		}
		var wantKinds []string
		want := map[string]int{}
		for _, s := range tree.Stmts {
			wantKinds = append(wantKinds, kindOf(inner(s.Stmt)))
			descend(inner(s.Stmt), func(m any) bool {
				if r, ok := m.(*pg.RangeVar); ok {
					want[relationKey(r)]++
				}
				return true
			})
		}
		kinds, relations, err := wireNames(encoded)
		if err != nil || !slices.Equal(kinds, wantKinds) {
			t.Errorf("%s: kinds %v, want %v: %v", text, kinds, wantKinds, err)
		}
		for _, key := range relations {
			want[key]--
			compared++
		}
		for key, left := range want {
			if left != 0 {
				t.Errorf("%s: relation %s is %d times more in the tree", text, key, left)
			}
		}
	}
	if compared < 200 {
		t.Errorf("only %d relations were compared", compared)
	}
}

func relationKey(r *pg.RangeVar) string {
	return fmt.Sprintf("%q.%q.%q at %d", r.Catalogname, r.Schemaname, r.Relname, r.Location)
}

// What is cut off, or is no tree, may be an error and never a panic.
func FuzzWire(f *testing.F) {
	for _, text := range corpus(f, "everyday.sql")[:40] {
		if encoded, err := parser.ParseToProtobuf(text); err == nil {
			f.Add(encoded)
			f.Add(encoded[:len(encoded)/2])
		}
	}
	f.Fuzz(func(_ *testing.T, encoded []byte) {
		wireNames(encoded)
	})
}

// What the tree's types do not say cannot be looked into, so it is not skipped.
func TestWireRefusesUnknownFields(t *testing.T) {
	encoded, err := parser.ParseToProtobuf("select 1 from app.orders")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"unknown field":                 append(slices.Clone(encoded), 0xfa, 0x7f, 0),
		"cut off":                       encoded[:len(encoded)-1],
		"a number where statements are": append(slices.Clone(encoded), 0x10, 1),
	} {
		if _, _, err := wireNames(bad); !errors.Is(err, errWire) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
