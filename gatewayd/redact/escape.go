package redact

import "bytes"

// places say where in a line each of its visible bytes lies; nil is where it stands, as in a line without escapes.
type places []int

func (p places) of(i int) int {
	if p == nil {
		return i
	}
	return p[i]
}

// visible are the bytes of a line that are no terminal escapes, and where they lie in it.
func visible(line []byte) (seen []byte, at places) {
	if bytes.IndexByte(line, esc) < 0 && bytes.IndexByte(line, 0x08) < 0 && bytes.IndexByte(line, 0) < 0 {
		return line, nil
	}
	at = make(places, 0, len(line))
	seen = make([]byte, 0, len(line))
	for i := 0; i < len(line); {
		if n := escape(line[i:]); n > 0 {
			i += n
			continue
		}
		seen, at = append(seen, line[i]), append(at, i)
		i++
	}
	return seen, at
}

const esc = 0x1b

// longestEscape bounds an escape sequence; a longer one is text.
const longestEscape = 256

// escape is how long the escape sequence is that b begins with (ECMA-48); 0 when it begins with none. An unfinished one ends with b.
// Zero bytes and backspaces count as escapes: terminals do not show them.
func escape(b []byte) int {
	if b[0] == 0 || b[0] == 0x08 {
		return 1
	}
	if b[0] != esc {
		return 0
	}
	if len(b) == 1 {
		return 1
	}
	limit := min(len(b), longestEscape)
	switch b[1] {
	case '[': // CSI parameters, intermediates, final
		for i := 2; i < limit; i++ {
			switch c := b[i]; {
			case c >= 0x40 && c <= 0x7e:
				return i + 1
			case c < 0x20 || c > 0x3f:
				return i // broken off
			}
		}
	case ']', 'P', 'X', '^', '_': // OSC, DCS, SOS, PM, APC: up to BEL or ST
		for i := 2; i < limit; i++ {
			if b[i] == 0x07 {
				return i + 1
			}
			if b[i] == esc && i+1 < limit && b[i+1] == '\\' {
				return i + 2
			}
		}
		if len(b) >= longestEscape {
			return 2 // what never ends is text that must be looked at
		}
	default: // intermediates, final
		for i := 1; i < limit; i++ {
			if b[i] < 0x20 || b[i] > 0x2f {
				return i + 1
			}
		}
	}
	return limit
}

// escapeBefore moves a cut out of an escape sequence that begins before it.
func escapeBefore(b []byte, cut int) int {
	for i := max(0, cut-longestEscape); i < cut; {
		n := escape(b[i:])
		if n == 0 {
			n = 1
		}
		if i+n > cut {
			if i == 0 {
				return cut
			}
			return i
		}
		i += n
	}
	return cut
}
