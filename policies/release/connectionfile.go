package release

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// connectionFile is data.sallyport.connections[name]. Most of a release stands
// in it, and from one release to the next most of it is the same, so its parts
// stay as they are written until somebody needs to look into one.
type connectionFile struct {
	connection json.RawMessage            // canonical
	reviews    map[string]json.RawMessage // reviewEntry by name, canonical
	documents  documents                  // base64 in the file
	seen       sightings
}

// reviewEntry is data.sallyport.connections[_].reviews[name].
type reviewEntry struct {
	SHA256     string          `json:"sha256"`
	Commit     string          `json:"commit"`
	ApprovedAt string          `json:"approvedAt"` // RFC 3339
	Approvers  []string        `json:"approvers"`
	Lines      map[string]int  `json:"lines"`
	Document   json.RawMessage `json:"document"` // reviews.Review.JSON, canonical
}

// start is how an entry begins, up to what follows from the review's bytes.
func (e reviewEntry) start() []byte {
	e.Lines, e.Document = nil, json.RawMessage("0")
	return bytes.TrimSuffix(canonical(e), []byte(`null,"document":0}`))
}

// encode writes the file as canonical would, without looking into its parts.
func (f connectionFile) encode() []byte {
	size := len(f.connection) + 64
	for name, entry := range f.reviews {
		size += len(name) + len(entry) + 4
	}
	size += 96 * len(f.seen)
	for name, b := range f.documents {
		size += len(name) + base64.StdEncoding.EncodedLen(len(b)) + 6
	}
	out := make([]byte, 0, size)
	out = append(out, `{"connection":`...)
	out = append(out, f.connection...)
	out = append(out, `,"reviews":{`...)
	for i, name := range slices.Sorted(maps.Keys(f.reviews)) {
		out = append(appendName(out, i, name), f.reviews[name]...)
	}
	out = append(out, `},"documents":{`...)
	for i, name := range slices.Sorted(maps.Keys(f.documents)) {
		out = append(appendName(out, i, name), '"')
		out = base64.StdEncoding.AppendEncode(out, f.documents[name])
		out = append(out, '"')
	}
	out = append(out, `},"seen":{`...)
	for i, sum := range slices.Sorted(maps.Keys(f.seen)) {
		out = append(appendName(out, i, sum), canonical(f.seen[sum])...)
	}
	return append(out, `}}`...)
}

// appendName begins member number i of an object.
func appendName(out []byte, i int, name string) []byte {
	if i > 0 {
		out = append(out, ',')
	}
	if strings.ContainsFunc(name, needsEscape) {
		return append(append(out, canonical(name)...), ':')
	}
	return append(append(append(out, '"'), name...), `":`...)
}

// needsEscape is true for everything that JSON might not write as it is.
func needsEscape(c rune) bool {
	return c < '-' || c > 'z' || ':' < c && c < 'A' || c == '\\'
}

// decodeConnection takes the file apart. It accepts what encode writes of the
// parts and nothing else, so the parts cover every byte. That a part is itself
// JSON, and canonical, is left to whoever looks into it: for each entry of a review and
// for the connection somebody has to, or has to know the very same bytes already.
func decodeConnection(b []byte) (connectionFile, error) {
	f := connectionFile{reviews: map[string]json.RawMessage{}, documents: documents{}, seen: sightings{}}
	s := scanner{rest: b}
	err := s.object(func(name string) error {
		switch name {
		case "connection":
			f.connection = s.value()
			return nil
		case "reviews":
			return s.object(func(name string) error {
				f.reviews[name] = s.value()
				return nil
			})
		case "documents":
			return s.object(func(name string) (err error) {
				f.documents[name], err = base64.StdEncoding.DecodeString(s.string())
				return err
			})
		case "seen":
			return s.object(func(sum string) error {
				f.seen[sum] = s.string()
				return nil
			})
		}
		return errNotCanonical
	})
	switch {
	case err == nil && bytes.Equal(f.encode(), b):
		return f, nil
	case !json.Valid(b):
		return connectionFile{}, errors.New("it is not the expected JSON")
	}
	return connectionFile{}, errNotCanonical
}

// scanner cuts JSON without white space into pieces. It does not tell whether it
// is JSON: on anything unexpected it yields pieces that do not add up to the text.
type scanner struct{ rest []byte }

// object calls member, which has to read the value, for each name of an object.
func (s *scanner) object(member func(name string) error) error {
	if !s.skip('{') {
		return errNotCanonical
	}
	for first := true; !s.skip('}'); first = false {
		if !first && !s.skip(',') {
			return errNotCanonical
		}
		name := s.string()
		if !s.skip(':') {
			return errNotCanonical
		}
		if err := member(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) skip(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// string reads a string, "" when there is none.
func (s *scanner) string() string {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return ""
	}
	token := s.cut(endOfString(s.rest))
	if len(token) >= 2 && bytes.IndexByte(token, '\\') < 0 {
		return string(token[1 : len(token)-1])
	}
	var text string
	_ = json.Unmarshal(token, &text) // "" on an error
	return text
}

// value reads an object, an array or a string.
func (s *scanner) value() json.RawMessage {
	depth := 0
	for i := 0; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '"':
			i += endOfString(s.rest[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth <= 0 {
			return s.cut(i + 1)
		}
	}
	return s.cut(len(s.rest))
}

func (s *scanner) cut(n int) []byte {
	piece := s.rest[:n:n]
	s.rest = s.rest[n:]
	return piece
}

// endOfString is the length of the string that b begins with.
func endOfString(b []byte) int {
	for i := 1; i < len(b); i++ {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			return len(b)
		}
		i += quote
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
	return len(b)
}
