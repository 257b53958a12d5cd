// Package redact hides what patterns and detectors find in a stream of output,
// line by line, whatever pieces the stream comes in.
//
// The invariant: the bytes that leave depend on the bytes that came and on where
// Flush was called, and on nothing else. A line is looked at as a person would see
// it, without terminal escapes, so that a color in the middle of a number hides
// nothing. Of a line longer than a window, a match of up to Longest bytes is found wherever it lies.
//
// It finds what is written out. What is encoded, compressed, spread over lines or
// written with pauses that make its caller flush passes.
package redact

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
)

// Longest is the longest match, in bytes, that is found for sure.
const Longest = 4 << 10

const window = 64 << 10

// Mark stands for what was hidden.
const Mark = "[masked]"

// Rules are what a Stream hides. Immutable; many streams share them.
type Rules struct {
	finders []finder
	keys    bool // private keys, which span lines
}

// span is a half-open range of bytes.
type span struct{ from, to int }

// finder finds spans in a line without escapes.
type finder func(line []byte) []span

// New compiles RE2 patterns and names of Detectors.
func New(patterns, detectors []string) (*Rules, error) {
	r := &Rules{}
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("pattern: %w", err)
		}
		r.finders = append(r.finders, matcher(re, nil))
	}
	for _, name := range detectors {
		if name == privateKey {
			r.keys = true
			continue
		}
		f, known := detectorsByName[name]
		if !known {
			return nil, fmt.Errorf("detector %q does not exist", name)
		}
		r.finders = append(r.finders, f)
	}
	return r, nil
}

// Empty reports that nothing is hidden.
func (r *Rules) Empty() bool { return r == nil || len(r.finders) == 0 && !r.keys }

// Stream hides what its rules find in one stream. Not safe for concurrent use.
type Stream struct {
	rules *Rules
	held  []byte // came and did not leave yet: no whole line
	clear int    // how much of it has no line's end
	out   []byte // what left at last, for its array
	inKey bool   // within a private key
}

// NewStream returns a stream under the rules.
func (r *Rules) NewStream() *Stream { return &Stream{rules: r} }

// Push takes what came and returns what may leave. The result is the caller's until the next call.
func (s *Stream) Push(b []byte) []byte {
	if s.rules.Empty() {
		return b
	}
	s.held = append(s.held, b...)
	rest := s.held // its array is used again
	out := s.out[:0]
	defer func() { s.out = out }()
	for {
		n := lineEnd(s.held[s.clear:max(s.clear, min(len(s.held), window))])
		switch {
		case n >= 0:
			n += s.clear
			s.clear = 0
			out = s.line(out, s.held[:n], true)
			out = append(out, s.held[n])
			s.held = s.held[n+1:]
		case len(s.held) >= window:
			var cut int
			out, cut = s.part(out, s.held[:window])
			s.held, s.clear = s.held[cut:], 0
		default:
			s.clear = len(s.held)
			if cap(rest) > 4*window {
				rest = nil
			}
			s.held = append(rest[:0], s.held...)
			return out
		}
	}
}

// lineEnd is where the first line of b ends; -1 when it does not.
func lineEnd(b []byte) int {
	n := bytes.IndexByte(b, '\n')
	if n >= 0 {
		b = b[:n]
	}
	if r := bytes.IndexByte(b, '\r'); r >= 0 {
		return r
	}
	return n
}

// Holds reports whether something is held back.
func (s *Stream) Holds() bool { return len(s.held) > 0 }

// Flush returns all that is held back, as if a line ended here.
func (s *Stream) Flush() []byte {
	if len(s.held) == 0 {
		return nil
	}
	out := s.line(nil, s.held, false)
	s.held, s.clear = nil, 0
	return out
}

// line appends a line, hidden where it must be. whole is false when it was cut short by a flush.
func (s *Stream) line(out, line []byte, whole bool) []byte {
	seen, at := visible(line)
	if s.rules.keys && s.key(seen, whole) {
		return append(out, Mark...)
	}
	return hide(out, line, at, s.rules.find(seen))
}

// part appends the safe beginning of a window that holds no line's end, and says how long it is.
func (s *Stream) part(out, win []byte) ([]byte, int) {
	seen, at := visible(win)
	if s.rules.keys && s.key(seen, false) {
		return append(out, Mark...), len(win)
	}
	spans := s.rules.find(seen)
	cut := len(win) - Longest
	for _, p := range spans {
		from, to := at.of(p.from), at.of(p.to-1)+1
		if from < cut && to > cut { // never between the two ends of a match
			if cut = from; from == 0 || to-from > Longest {
				cut = to
			}
		}
	}
	cut = escapeBefore(win, cut)
	spans = slices.DeleteFunc(spans, func(p span) bool { return at.of(p.from) >= cut })
	return hide(out, win[:cut], at, spans), cut
}

// find returns all spans, merged and in order.
func (r *Rules) find(seen []byte) []span {
	var all []span
	for _, f := range r.finders {
		all = append(all, f(seen)...)
	}
	slices.SortFunc(all, func(a, b span) int { return a.from - b.from })
	merged := all[:0]
	for _, p := range all {
		if n := len(merged); n > 0 && p.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, p.to)
			continue
		}
		merged = append(merged, p)
	}
	return merged
}

// hide appends line with the spans, which count visible bytes, replaced. Escapes
// within them stay, so that the terminal ends as it would have.
func hide(out, line []byte, at places, spans []span) []byte {
	from := 0 // in line
	for _, p := range spans {
		begin := at.of(p.from)
		if begin >= len(line) {
			break
		}
		out = append(out, line[from:begin]...)
		out = append(out, Mark...)
		for i := p.from; at != nil && i < p.to; i++ {
			if i+1 < p.to && at[i]+1 < at[i+1] {
				out = append(out, line[at[i]+1:at[i+1]]...)
			}
		}
		from = min(at.of(p.to-1)+1, len(line))
	}
	return append(out, line[from:]...)
}
