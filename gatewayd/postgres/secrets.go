package postgres

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
)

// secrets are the values of literals and parameters that a session's recording has
// digested because they meet masked columns, or are passwords. The target may
// repeat them, in the definition of a temporary view for example; then the
// recorded answer has the same digest there.
type secrets struct {
	mu       sync.Mutex
	digest   func(string) string
	values   map[string]bool
	replacer *strings.Replacer // of values; nil when it has to be made anew
	full     bool              // there are more than values remembers
}

const (
	minSecret  = 4    // bytes; a shorter one stands in too much that is none
	mostSecret = 1024 // values of one session
)

func (s *secrets) remember(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		switch {
		case len(v) < minSecret || s.values[v]:
		case len(s.values) == mostSecret:
			s.full = true
		default:
			if s.values == nil {
				s.values = map[string]bool{}
			}
			s.values[v], s.replacer = true, nil
		}
	}
}

// hide is text as it may be recorded.
func (s *secrets) hide(text []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.full:
		return []byte("(not recorded: the session used more values that meet masked columns than can be looked for)\n")
	case len(s.values) == 0:
		return text
	case s.replacer == nil:
		var pairs []string
		longest := func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }
		for _, v := range slices.SortedFunc(maps.Keys(s.values), longest) {
			digest := s.digest(v)
			pairs = append(pairs, v, digest)
			if doubled := strings.ReplaceAll(v, "'", "''"); doubled != v { // as SQL writes it
				pairs = append(pairs, doubled, digest)
			}
		}
		s.replacer = strings.NewReplacer(pairs...)
	}
	return []byte(s.replacer.Replace(string(text)))
}
