// Package strictyaml reads one small YAML file into a Go struct so that two
// readers can never disagree about what it says.
//
// It refuses whatever makes YAML ambiguous: duplicate and unknown keys, more
// than one document, anchors, aliases, merge keys, tags and directives, words
// that some readers take for booleans, numbers or dates, foreign line breaks and
// invisible characters. Every refusal has a file, line and column and says what
// to do, and all of them are reported at once.
//
// It is not a general YAML library and never writes YAML. The invariant: a
// struct that Decode filled without an error holds exactly what a person sees
// in the file, and the work done is linear in the file's size.
//
// Messages name keys, never values, because a value may be a secret.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	// DefaultMaxBytes is how large a file may be unless Options says otherwise.
	DefaultMaxBytes = 64 << 10
	// DefaultMaxDepth is how deeply lists and mappings may nest unless Options says otherwise.
	DefaultMaxDepth = 8
)

// Options bound what Decode accepts. The zero value is the strictest.
type Options struct {
	MaxBytes int // size of the file in bytes; 0 means DefaultMaxBytes
	MaxDepth int // nesting of lists and mappings; 0 means DefaultMaxDepth
	// NotYet maps the paths of keys that are planned but not supported
	// ("spec.delegations") to the answer for people who write them.
	NotYet map[string]string
}

// Decode reads the file's bytes into the struct that out points to. Fields are
// matched by their yaml tag; a field that the file does not set keeps its value,
// which is how defaults are given. Supported are structs, slices, maps with string
// keys, strings, booleans, integers, time.Time and encoding.TextUnmarshaler;
// another type in out is a mistake of the programmer and panics.
//
// The error is a Problems with every problem found. Lines is never nil and is
// usable even then, so that the caller can add problems of its own. After an
// error out holds what could be read and must not be trusted.
func Decode(path string, b []byte, out any, opt Options) (Lines, error) {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.MaxDepth == 0 {
		opt.MaxDepth = DefaultMaxDepth
	}
	d := &decoder{
		path:    path,
		opt:     opt,
		lines:   Lines{"": {File: path, Line: 1, Column: 1}},
		runes:   make(map[int][]rune),
		refused: make(map[*yaml.Node]bool),
	}
	if ps := CheckText(path, b, opt.MaxBytes); len(ps) > 0 {
		return d.lines, ps
	}
	if ps := checkLines(path, b); len(ps) > 0 {
		return d.lines, ps
	}
	d.source = strings.Split(string(b), "\n")
	root, ok := d.parse(b)
	if !ok {
		return d.lines, d.problems
	}
	d.shape(root, 1)
	d.value(root, "", reflect.ValueOf(out).Elem())
	d.problems.Sort()
	return d.lines, d.problems.Err()
}

// decoder is the state of one Decode.
type decoder struct {
	path     string
	opt      Options
	source   []string       // lines of the file
	runes    map[int][]rune // lines of the file by number, in characters, as far as needed
	lines    Lines
	refused  map[*yaml.Node]bool // nodes with a construct that was reported and is not decoded
	problems Problems
}

func (d *decoder) full() bool { return len(d.problems) >= maxProblems }

func (d *decoder) problem(n *yaml.Node, message, fix string) {
	if d.full() {
		return
	}
	d.problems = append(d.problems, Problem{d.position(n), message, fix})
}

func (d *decoder) position(n *yaml.Node) Position {
	return Position{File: d.path, Line: n.Line, Column: n.Column}
}

var syntaxError = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// parse returns the mapping at the top of the only document.
func (d *decoder) parse(b []byte) (root *yaml.Node, ok bool) {
	defer func() {
		if r := recover(); r != nil { // yaml.v3 panics on some malformed input
			d.problems = append(d.problems, Problem{Position{d.path, 1, 1}, "this is not valid YAML", "check indentation and quotes"})
			root, ok = nil, false
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || (err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0]))) {
		d.problems = append(d.problems, Problem{Position{d.path, 1, 1}, "the file is empty", "write the document, or delete the file"})
		return nil, false
	}
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	root = doc.Content[0]
	if root.Kind != yaml.MappingNode {
		d.problem(root, "the document has to be a mapping of keys to values, not a "+kindName(root), "start it with \"apiVersion:\" or another key at the left margin")
		return nil, false
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		d.problem(root, "a file holds exactly one document", "delete what follows the first")
		return nil, false
	}
	return root, true
}

func (d *decoder) syntax(err error) {
	m := syntaxError.FindStringSubmatch(err.Error())
	line, _ := strconv.Atoi(m[1])
	line = min(max(line, 1), len(d.source))
	column := 1 + len(d.source[line-1]) - len(strings.TrimLeft(d.source[line-1], " "))
	d.problems = append(d.problems, Problem{Position{d.path, line, column}, "this is not valid YAML near here: " + m[2], "check indentation, colons and quotes"})
}

// shape refuses the constructs that no document may contain, wherever they stand.
func (d *decoder) shape(n *yaml.Node, depth int) {
	if d.full() {
		return
	}
	if depth > d.opt.MaxDepth+1 {
		d.refuse(n, fmt.Sprintf("lists and mappings are nested more than %d deep", d.opt.MaxDepth), "flatten the document")
		return
	}
	switch {
	case n.Kind == yaml.AliasNode:
		d.refuse(n, "aliases (*name) are not allowed", "write the value out")
		return
	case n.Anchor != "":
		d.refuse(n, "anchors (&name) are not allowed", "delete the anchor")
	case n.Style&yaml.TaggedStyle != 0 || d.starts(n, '!'):
		d.refuse(n, "tags (!type) are not allowed", "delete the tag")
	}
	if n.Kind == yaml.MappingNode {
		d.keys(n)
	}
	for _, child := range n.Content {
		d.shape(child, depth+1)
	}
}

func (d *decoder) refuse(n *yaml.Node, message, fix string) {
	d.refused[n] = true
	d.problem(n, message, fix)
}

// starts reports whether the source has the character c where the node begins.
// yaml.v3 does not tell of the tag "!", so the source has to.
func (d *decoder) starts(n *yaml.Node, c rune) bool {
	if n.Line < 1 || n.Line > len(d.source) {
		return false
	}
	line, ok := d.runes[n.Line]
	if !ok {
		line = []rune(d.source[n.Line-1])
		d.runes[n.Line] = line
	}
	return n.Column >= 1 && n.Column <= len(line) && line[n.Column-1] == c
}

// keys refuses keys that are not single values, that merge, or that repeat. Whether
// a reader takes one for something else than text matters only where people choose
// the names, see mapping: a field called "on" is known by its letters.
func (d *decoder) keys(n *yaml.Node) {
	first := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !d.full(); i += 2 {
		key := n.Content[i]
		switch earlier := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.refuse(key, "a key has to be text, not a "+kindName(key), "write one plain name before the colon")
		case isPlain(key) && key.Value == "<<":
			d.refuse(key, "merge keys (<<) are not allowed", "write the keys out")
		case isPlain(key) && key.Value != "on" && (isNull(key) || ambiguousForm.MatchString(key.Value)): // "on" is a key of our own documents
			d.refuse(key, "a key has to be text, and some programs read this one as something else", "write it in double quotes")
		case earlier != nil:
			d.refuse(key, fmt.Sprintf("key %s is already set on line %d", shorten(key.Value), earlier.Line), "delete one of the two")
		default:
			first[key.Value] = key
		}
	}
}

// value decodes a node into a Go value and notes where it stands.
func (d *decoder) value(n *yaml.Node, path string, out reflect.Value) {
	if d.refused[n] {
		return
	}
	if isNull(n) {
		d.problem(n, "the value is missing", "write a value or delete the key")
		return
	}
	if out.CanAddr() && out.Addr().Type().Implements(textType) {
		d.scalar(n, out) // time.Time too
		return
	}
	switch out.Kind() {
	case reflect.Pointer: // to what the caller made; a nil one panics
		d.value(n, path, out.Elem())
	case reflect.Struct:
		d.structure(n, path, out)
	case reflect.Slice:
		d.list(n, path, out)
	case reflect.Map:
		d.mapping(n, path, out)
	default:
		d.scalar(n, out)
	}
}

// note remembers where a value stands: a scalar where it is written, anything
// larger at its key.
func (d *decoder) note(path string, key, value *yaml.Node) {
	if value.Kind == yaml.ScalarNode && !isNull(value) {
		key = value
	}
	d.lines[path] = d.position(key)
}

func (d *decoder) structure(n *yaml.Node, path string, out reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, "a mapping of keys to values is expected here, not a "+kindName(n), "known here: "+strings.Join(fieldNames(out.Type()), ", "))
		return
	}
	for i := 0; i+1 < len(n.Content) && !d.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if d.refused[key] {
			continue
		}
		at := join(path, key.Value)
		field, known := fieldByName(out, key.Value)
		if !known {
			d.unknown(key, at, out.Type())
			continue
		}
		d.note(at, key, value)
		d.value(value, at, field)
	}
}

func (d *decoder) unknown(key *yaml.Node, path string, t reflect.Type) {
	if answer, planned := d.opt.NotYet[path]; planned {
		d.problem(key, answer, "delete it")
		return
	}
	d.problem(key, "unknown field "+shorten(key.Value), Suggest(key.Value, fieldNames(t)))
}

func (d *decoder) list(n *yaml.Node, path string, out reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.problem(n, "a list is expected here, not a "+kindName(n), "write [a, b] or one \"- …\" line for each element")
		return
	}
	list := reflect.MakeSlice(out.Type(), len(n.Content), len(n.Content))
	for i, element := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.note(at, element, element)
		d.value(element, at, list.Index(i))
	}
	out.Set(list)
}

func (d *decoder) mapping(n *yaml.Node, path string, out reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, "a mapping of names to values is expected here, not a "+kindName(n), "write {name: value} or one \"name: value\" line for each")
		return
	}
	t := out.Type()
	if t.Key().Kind() != reflect.String {
		panic(fmt.Sprintf("strictyaml: cannot decode into %s", t))
	}
	result := reflect.MakeMapWithSize(t, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if isPlain(key) && ambiguousForm.MatchString(key.Value) {
			d.refuse(key, "a name has to be text, and some programs read this one as something else", "write it in double quotes")
		}
		if d.refused[key] || !d.isText(key) {
			continue
		}
		at := join(path, key.Value)
		d.note(at, key, value)
		element := reflect.New(t.Elem()).Elem()
		d.value(value, at, element)
		result.SetMapIndex(reflect.ValueOf(key.Value).Convert(t.Key()), element)
	}
	out.Set(result)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func fieldByName(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if fieldName(v.Type().Field(i)) == name && name != "" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// fieldName is the key that sets a struct field, "" when none does.
func fieldName(f reflect.StructField) string {
	tag, tagged := f.Tag.Lookup("yaml")
	name, _, _ := strings.Cut(tag, ",")
	switch {
	case !f.IsExported() || name == "-":
		return ""
	case tagged && name != "":
		return name
	}
	return strings.ToLower(f.Name)
}
