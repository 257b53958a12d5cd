package redact

import (
	"bytes"
	"maps"
	"math/big"
	"regexp"
	"slices"
)

// privateKey is the one detector that looks over lines.
const privateKey = "private_key"

// detectorsByName are the built-in ones. Each asks for what its matches must hold before it looks closer.
var detectorsByName = map[string]finder{
	"card":    cards,
	"iban":    gate(mayHoldIBAN, ibans),
	"email":   gate(func(b []byte) bool { return bytes.IndexByte(b, '@') > 0 }, matcher(emailForm, nil)),
	"aws_key": gate(func(b []byte) bool { return bytes.Contains(b, []byte("AKIA")) || bytes.Contains(b, []byte("ASIA")) }, matcher(regexp.MustCompile(`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`), nil)),
	"jwt":     gate(func(b []byte) bool { return bytes.Contains(b, []byte("eyJ")) }, matcher(regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`), nil)),
}

// Detectors are the names of the built-in detectors.
func Detectors() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(detectorsByName)), privateKey)))
}

var emailForm = regexp.MustCompile(`[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b`)

func matcher(re *regexp.Regexp, check func([]byte) bool) finder {
	return func(line []byte) []span {
		var spans []span
		for _, m := range re.FindAllIndex(line, -1) {
			if m[0] < m[1] && (check == nil || check(line[m[0]:m[1]])) {
				spans = append(spans, span{m[0], m[1]})
			}
		}
		return spans
	}
}

func gate(open func([]byte) bool, f finder) finder {
	return func(line []byte) []span {
		if !open(line) {
			return nil
		}
		return f(line)
	}
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func wordByte(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// cards finds payment card numbers (ISO/IEC 7812): 13 to 19 digits that begin as the
// schemes' do and pass Luhn's check, in one piece or in groups with one blank or hyphen between them.
func cards(line []byte) []span {
	var spans []span
	var room [16]span // so that most numbers cost no memory
	for i := 0; i < len(line); {
		if !digit(line[i]) || i > 0 && (wordByte(line[i-1])) {
			i++
			continue
		}
		groups := room[:0]
		end := i
		for {
			from := end
			for end < len(line) && digit(line[end]) {
				end++
			}
			groups = append(groups, span{from, end})
			if end+1 < len(line) && (line[end] == ' ' || line[end] == '-') && digit(line[end+1]) {
				end++
				continue
			}
			break
		}
		if end < len(line) && wordByte(line[end]) { // 0123…abc is no number; its last group is out
			groups = groups[:len(groups)-1]
		}
		spans = append(spans, cardsIn(line, groups)...)
		i = end + 1
	}
	return spans
}

func cardsIn(line []byte, groups []span) []span {
	var spans []span
	for i := 0; i < len(groups); i++ {
		total := 0
		for j := i; j < len(groups) && total <= 19; j++ {
			size := groups[j].to - groups[j].from
			if j > i && (size < 2 || size > 7 || groups[i].to-groups[i].from > 7) {
				break
			}
			total += size
			if total >= 13 && total <= 19 && isCard(line[groups[i].from:groups[j].to]) {
				spans = append(spans, span{groups[i].from, groups[j].to})
				i = j
				break
			}
		}
	}
	return spans
}

func isCard(text []byte) bool {
	if text[0] < '2' || text[0] > '6' {
		return false
	}
	sum, double := 0, false
	for i := len(text) - 1; i >= 0; i-- {
		if !digit(text[i]) {
			continue
		}
		n := int(text[i] - '0')
		if double {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum, double = sum+n, !double
	}
	return sum%10 == 0
}

var ibanForm = regexp.MustCompile(`\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b`)

// mayHoldIBAN looks for two capital letters and two digits.
func mayHoldIBAN(line []byte) bool {
	capital := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	for i := 3; i < len(line); i++ {
		if !digit(line[i]) {
			continue
		}
		if digit(line[i-1]) && capital(line[i-2]) && capital(line[i-3]) {
			return true
		}
	}
	return false
}

// ibans finds International Bank Account Numbers (ISO 13616), in one piece or in groups of four.
func ibans(line []byte) []span {
	var spans []span
	for _, m := range ibanForm.FindAllIndex(line, -1) {
		// A word behind the number may have been taken for its last group.
		for end := m[1]; end-m[0] >= 15; {
			if isIBAN(line[m[0]:end]) {
				spans = append(spans, span{m[0], end})
				break
			}
			shorter := bytes.LastIndexByte(line[m[0]:end], ' ')
			if shorter < 0 {
				break
			}
			end = m[0] + shorter
		}
	}
	return spans
}

func isIBAN(text []byte) bool {
	text = bytes.ReplaceAll(text, []byte(" "), nil)
	if len(text) < 15 || len(text) > 34 {
		return false
	}
	var digits []byte
	for _, c := range slices.Concat(text[4:], text[:4]) {
		if digit(c) {
			digits = append(digits, c)
			continue
		}
		digits = append(digits, '1'+(c-'A')/10, '0'+(c-'A')%10)
	}
	// A letter is 10 to 35.
	n, ok := new(big.Int).SetString(string(digits), 10)
	return ok && new(big.Int).Mod(n, big.NewInt(97)).Int64() == 1
}

var (
	keyBegins = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)
	keyEnds   = []byte("-----END ")
)

// key reports that a line is part of a private key in PEM (RFC 7468) or OpenSSH's form.
func (s *Stream) key(seen []byte, whole bool) bool {
	if s.inKey {
		s.inKey = !whole || !bytes.Contains(seen, keyEnds)
		return true
	}
	if !keyBegins.Match(seen) {
		return false
	}
	s.inKey = !bytes.Contains(seen, keyEnds) || !whole
	return true
}
