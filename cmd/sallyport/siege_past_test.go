package main

import (
	"maps"
	"testing"
	"testing/fstest"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// Old copies keep their signatures, and neither CI nor sync takes them back: of a
// connection, a principal, a policy and the config.
func TestSiegeOldCopies(t *testing.T) {
	connection, principal := reviews.PathOf(reviews.KindConnection, "orders-db"), reviews.PathOf(reviews.KindPrincipal, "agent:etl")
	for name, x := range map[string]struct {
		path   string
		change func(s *siege) // nil: it is deleted
	}{
		"connection":         {connection, func(s *siege) { s.access.Connection("orders-db", "  risk: high\n") }},
		"deleted connection": {connection, nil},
		"principal":          {principal, func(s *siege) { s.rewrite(principal, reviews.NamespacePrincipal, "user:bob") }},
		"policy":             {siegePolicy, func(s *siege) { s.policy(siegeRules+"# newer\n", "user:bob", "user:dan") }},
		"config":             {reviews.ConfigPath, func(s *siege) { s.rewrite(reviews.ConfigPath, reviews.NamespaceConfig, "user:bob", "user:dan") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			start := maps.Clone(s.access.Files)
			if x.change == nil {
				s.access.Remove(x.path)
			} else {
				x.change(s)
			}
			newer := s.propose("newer")
			if r := s.check(newer); !r.OK && x.change != nil {
				t.Errorf("check refuses the newer one: %v", r.Findings)
			}
			replaced := s.merge("newer")
			if x.change == nil {
				s.granted("")
			} else {
				s.granted("orders-db/etl#1")
			}
			s.access.Files = start
			s.refused(s.propose("older"), ci.RuleOlder)
			s.merge("older")
			r := s.granted(map[bool]string{true: "", false: "orders-db/etl#1"}[x.path == connection || x.path == principal])
			s.says(r, "older version", replaced[:12])
		})
	}
}

// rewrite adds a comment to a document and has it signed by exactly these.
func (s *siege) rewrite(path, namespace string, by ...string) {
	s.Helper()
	text := string(s.access.Files[path].Data) + "\n# newer\n"
	s.access.Remove(path)
	s.access.Files[path] = &fstest.MapFile{Data: []byte(text)}
	s.sign(path, namespace, by...)
}

// What was never in force replaces nothing: a merge by mistake can be reverted.
func TestSiegeRevertOfTheUnapproved(t *testing.T) {
	s := newSiege(t)
	start := maps.Clone(s.access.Files)
	path := reviews.PathOf(reviews.KindConnection, "orders-db")
	s.rewrite(path, reviews.NamespaceConnection)
	s.merge("nobody signed it")
	s.granted("")
	s.access.Files = start
	if r := s.check(s.propose("revert")); !r.OK {
		t.Errorf("check refuses what sync grants: %v", r.Findings)
	}
	s.merge("revert")
	s.granted("orders-db/etl#1")
}
