package postgres

import (
	"fmt"
	"strings"

	"github.com/sallyport-dev/sallyport/gatewayd/postgres/sqlguard"
)

// pinnedSettings hold for the whole session. A client may name them with the
// value they have anyway; a report of another value cuts the session.
var pinnedSettings = map[string]string{
	"client_encoding":             "UTF8",
	"standard_conforming_strings": "on",
}

// targetPins are sent to the target beside pinnedSettings, so that no default of a role or database decides them.
var targetPins = map[string]string{
	"debug_print_parse": "off", "debug_print_rewritten": "off", "debug_print_plan": "off",
	"backslash_quote": "safe_encoding", "transform_null_equals": "off",
}

// settings are the target's startup parameters for what a client asked for, or why it may not ask for it.
func (st *startup) settings() (map[string]string, *failure) {
	out := map[string]string{}
	for name, value := range targetPins {
		out[name] = value
	}
	for name, value := range pinnedSettings {
		out[name] = value
	}
	for name, value := range st.parameters {
		switch strings.ToLower(name) {
		case "user", "database":
		case "options":
			pairs, err := parseOptions(value)
			if err != nil {
				return nil, &failure{code: "22023", message: "startup parameter options: " + err.Error()}
			}
			for _, p := range pairs {
				if f := setting(out, p[0], p[1]); f != nil {
					return nil, f
				}
			}
		default:
			if f := setting(out, name, value); f != nil {
				return nil, f
			}
		}
	}
	return out, nil
}

// setting adds one parameter of the client's, when it may be set.
func setting(out map[string]string, name, value string) *failure {
	name = strings.ToLower(name)
	if want, pinned := pinnedSettings[name]; pinned {
		if name == "client_encoding" && isUTF8(value) || value == want {
			return nil
		}
		return &failure{code: "22023", message: fmt.Sprintf("startup parameter %s must be %s here: statements are read as that", name, want)}
	}
	if !sqlguard.SettingAllowed(name, value) {
		return &failure{code: "28000", message: fmt.Sprintf("startup parameter %q is not allowed through this gateway: leave it out", name)}
	}
	if name == "search_path" {
		if _, err := parseSearchPath(value); err != nil {
			return &failure{code: "22023", message: "startup parameter search_path: " + err.Error()}
		}
	}
	out[name] = value
	return nil
}

// isUTF8 takes the names of UTF-8 and SQL_ASCII, which libpq asks for in the C
// locale and which means that the client converts nothing. Like PostgreSQL it looks
// at letters and digits alone: asyncpg sends 'utf-8', with the quotes.
func isUTF8(encoding string) bool {
	encoding = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(encoding))
	switch encoding {
	case "utf8", "unicode", "sqlascii":
		return true
	}
	return false
}

// parseOptions splits the command-line form of settings, -c name=value or
// --name=value, as PostgreSQL does: at white space that no backslash precedes.
func parseOptions(s string) ([][2]string, error) {
	words := splitOptions(s)
	var pairs [][2]string
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			word = words[i]
		case strings.HasPrefix(word, "--"):
			word = word[2:]
		case strings.HasPrefix(word, "-c") && len(word) > 2:
			word = word[2:]
		default:
			return nil, fmt.Errorf("%q is not -c name=value", word)
		}
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=value", word)
		}
		pairs = append(pairs, [2]string{strings.ReplaceAll(name, "-", "_"), value})
	}
	return pairs, nil
}

func splitOptions(s string) []string {
	var words []string
	var word strings.Builder
	in, escaped := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case c == '\\':
			in, escaped = true, true
		case strings.IndexByte(" \t\n\v\f\r", c) >= 0:
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			in = true
			word.WriteByte(c)
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words
}

// parseSearchPath reads a list of identifiers as PostgreSQL's SplitIdentifierString does.
func parseSearchPath(s string) ([]string, error) {
	var names []string
	rest := strings.TrimSpace(s)
	if rest == "" {
		return []string{}, nil
	}
	for {
		name, after, err := identifier(rest)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		after = strings.TrimSpace(after)
		if after == "" {
			return names, nil
		}
		if after[0] != ',' {
			return nil, fmt.Errorf("%q is not a list of schema names", s)
		}
		rest = strings.TrimSpace(after[1:])
	}
}

func identifier(s string) (name, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t\n\v\f\r\"")
		if end < 0 {
			end = len(s)
		}
		if end == 0 {
			return "", "", fmt.Errorf("a schema name is missing before %q", s)
		}
		return asciiLower(s[:end]), s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		if b.Len() == 0 {
			break
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", fmt.Errorf("a quoted schema name in %q is empty or does not end", s)
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
