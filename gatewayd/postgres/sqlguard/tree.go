package sqlguard

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/pganalyze/pg_query_go/v6/parser"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// parse parses a text. The parser hands a tree over as protobuf or as JSON; to
// write JSON costs it a fifth. Both hold the same, a test compares.
func parse(text string) (*pg.ParseResult, error) {
	if len(text) > jsonLimit {
		return pg.Parse(text)
	}
	tree, err := parser.ParseToJSON(text)
	if err != nil {
		return nil, err
	}
	return readTree(tree)
}

// outline is what verification looks at in a statement.
type outline struct {
	kind      reflect.Type // *pg.SelectStmt …
	relations []*pg.RangeVar
}

// outlines lists the statements of a text without building their trees.
func outlines(text string) ([]outline, error) {
	if len(text) <= jsonLimit {
		tree, err := parser.ParseToJSON(text)
		if err != nil {
			return nil, err
		}
		return readOutlines(tree)
	}
	tree, err := parse(text)
	if err != nil {
		return nil, err
	}
	var list []outline
	for _, raw := range tree.Stmts {
		o := outline{kind: reflect.TypeOf(inner(raw.Stmt))}
		descend(inner(raw.Stmt), func(m any) bool {
			if r, ok := m.(*pg.RangeVar); ok {
				o.relations = append(o.relations, r)
			}
			return true
		})
		list = append(list, o)
	}
	return list, nil
}

// jsonLimit bounds the texts that are parsed to JSON, in bytes: it may be 100 times
// as long as the text, and at 1 GiB of it the parser ends the process.
const jsonLimit = 128 << 10

var (
	parseResultType = reflect.TypeFor[pg.ParseResult]()
	rawStmtType     = reflect.TypeFor[pg.RawStmt]()
	rangeVarType    = reflect.TypeFor[pg.RangeVar]()
)

var errTree = errors.New("the parser's answer is malformed")

// treeType is a message type of the parse tree as JSON names it.
type treeType struct {
	of     reflect.Type // the struct
	fields map[string]*treeField
}

// treeField is a field of a treeType.
type treeField struct {
	index   int // of the struct's field
	kind    protoreflect.Kind
	list    bool
	holds   *treeType        // for messages
	enum    map[string]int64 // for enumerations
	wrapper reflect.Type     // what the struct's field holds when it is a one-of; else nil
}

// parseResult is the type of a whole tree. It is made from the parser's own
// descriptors, so that no field is forgotten.
var parseResult = sync.OnceValue(func() *treeType {
	types := make(map[protoreflect.FullName]*treeType)
	var of func(protoreflect.Message) *treeType
	of = func(m protoreflect.Message) *treeType {
		d := m.Descriptor()
		if t := types[d.FullName()]; t != nil {
			return t
		}
		t := &treeType{of: reflect.TypeOf(m.Interface()).Elem(), fields: make(map[string]*treeField)}
		types[d.FullName()] = t
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			f := &treeField{kind: fd.Kind(), list: fd.IsList()}
			f.index, f.wrapper = place(m.New(), fd)
			switch {
			case fd.Message() != nil && f.list:
				f.holds = of(m.NewField(fd).List().NewElement().Message())
			case fd.Message() != nil:
				f.holds = of(m.NewField(fd).Message())
			case fd.Enum() != nil:
				f.enum = make(map[string]int64)
				for j := range fd.Enum().Values().Len() {
					v := fd.Enum().Values().Get(j)
					f.enum[string(v.Name())] = int64(v.Number())
				}
			}
			t.fields[fd.JSONName()] = f
		}
		return t
	}
	return of((&pg.ParseResult{}).ProtoReflect())
})

// place finds the struct's field that holds a field of a message, and what wraps it there.
func place(m protoreflect.Message, fd protoreflect.FieldDescriptor) (index int, wrapper reflect.Type) {
	v := reflect.ValueOf(m.Interface()).Elem()
	name := "name=" + string(fd.Name()) + ","
	for i := range v.NumField() {
		if strings.Contains(v.Type().Field(i).Tag.Get("protobuf"), name) {
			return i, nil
		}
	}
	oneof := fd.ContainingOneof()
	m.Set(fd, m.NewField(fd))
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("protobuf_oneof") == string(oneof.Name()) {
			return i, v.Field(i).Elem().Type().Elem()
		}
	}
	panic("sqlguard: no place for " + string(fd.FullName()))
}

// readTree reads a tree that the parser wrote as JSON.
func readTree(s string) (*pg.ParseResult, error) {
	tree := &pg.ParseResult{}
	err := read(s, func(r *treeReader) { r.message(parseResult(), reflect.ValueOf(tree).Elem()) })
	return tree, err
}

// readOutlines reads what matters to verification of such a tree.
func readOutlines(s string) (list []outline, err error) {
	err = read(s, func(r *treeReader) { r.skim(parseResult(), &list) })
	return list, err
}

// read has all of s read.
func read(s string, all func(*treeReader)) (err error) {
	r := &treeReader{s: s}
	defer func() {
		if p := recover(); p != nil {
			if p != errTree {
				panic(p)
			}
			err = fmt.Errorf("%w at byte %d", errTree, r.at)
		}
	}()
	all(r)
	if r.at != len(s) {
		panic(errTree)
	}
	return nil
}

// treeReader reads the parser's JSON, which has no white space. What it does not
// know ends it by a panic with errTree: nobody knows what such a part would mean.
type treeReader struct {
	s     string
	at    int
	nodes []pg.Node // allocated and not used yet
}

// node reads a node, of which trees have most.
func (r *treeReader) node(t *treeType) *pg.Node {
	if len(r.nodes) == 0 {
		r.nodes = make([]pg.Node, 16)
	}
	n := &r.nodes[0]
	r.nodes = r.nodes[1:]
	r.message(t, reflect.ValueOf(n).Elem())
	return n
}

func (r *treeReader) peek() byte {
	if r.at >= len(r.s) {
		panic(errTree)
	}
	return r.s[r.at]
}

func (r *treeReader) expect(c byte) {
	if r.peek() != c {
		panic(errTree)
	}
	r.at++
}

// more says whether another element follows in what ends with end.
func (r *treeReader) more(end byte, first bool) bool {
	if r.peek() == end {
		r.at++
		return false
	}
	if !first {
		r.expect(',')
	}
	return true
}

// message reads an object into a struct.
func (r *treeReader) message(t *treeType, v reflect.Value) {
	r.expect('{')
	for first := true; r.more('}', first); first = false {
		f := t.fields[r.text()]
		if f == nil {
			panic(errTree)
		}
		r.expect(':')
		to := v.Field(f.index)
		switch {
		case f.wrapper != nil:
			if !to.IsNil() {
				panic(errTree)
			}
			w := reflect.New(f.wrapper)
			r.value(f, w.Elem().Field(0))
			to.Set(w)
		case f.list:
			r.list(f, to)
		default:
			r.value(f, to)
		}
	}
}

func (r *treeReader) list(f *treeField, to reflect.Value) {
	r.expect('[')
	n := 0
	for first := true; r.more(']', first); first = false {
		if n == to.Cap() {
			to.Grow(1)
		}
		n++
		to.SetLen(n)
		r.value(f, to.Index(n-1))
	}
}

// value reads one value of a field's kind.
func (r *treeReader) value(f *treeField, to reflect.Value) {
	switch f.kind {
	case protoreflect.MessageKind:
		if n, is := to.Addr().Interface().(**pg.Node); is {
			*n = r.node(f.holds)
			return
		}
		m := reflect.New(f.holds.of)
		r.message(f.holds, m.Elem())
		to.Set(m)
	case protoreflect.StringKind:
		to.SetString(r.text())
	case protoreflect.BoolKind:
		to.SetBool(r.boolean())
	case protoreflect.EnumKind:
		n, ok := f.enum[r.text()]
		if !ok {
			panic(errTree)
		}
		to.SetInt(n)
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		n, err := strconv.ParseInt(r.number(), 10, to.Type().Bits())
		if err != nil {
			panic(errTree)
		}
		to.SetInt(n)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(r.number(), 10, to.Type().Bits())
		if err != nil {
			panic(errTree)
		}
		to.SetUint(n)
	default:
		panic(errTree)
	}
}

// skim reads an object for the outlines of the statements in it.
func (r *treeReader) skim(t *treeType, list *[]outline) {
	switch t.of {
	case rawStmtType:
		*list = append(*list, outline{})
	case nodeType.Elem(), parseResultType:
	case rangeVarType:
		relation := &pg.RangeVar{}
		r.message(t, reflect.ValueOf(relation).Elem())
		o := &(*list)[len(*list)-1]
		o.relations = append(o.relations, relation)
		return
	default:
		if o := &(*list)[len(*list)-1]; o.kind == nil {
			o.kind = reflect.PointerTo(t.of)
		}
	}
	r.expect('{')
	for first := true; r.more('}', first); first = false {
		f := t.fields[r.text()]
		if f == nil {
			panic(errTree)
		}
		r.expect(':')
		if !f.list {
			r.skip(f, list)
			continue
		}
		r.expect('[')
		for first := true; r.more(']', first); first = false {
			r.skip(f, list)
		}
	}
}

// skip reads over one value of a field's kind, but for what skim is after.
func (r *treeReader) skip(f *treeField, list *[]outline) {
	switch f.kind {
	case protoreflect.MessageKind:
		r.skim(f.holds, list)
	case protoreflect.StringKind, protoreflect.EnumKind:
		r.text()
	case protoreflect.BoolKind:
		r.boolean()
	default:
		if r.number() == "" {
			panic(errTree)
		}
	}
}

func (r *treeReader) boolean() bool {
	for _, word := range [...]string{"true", "false"} {
		if strings.HasPrefix(r.s[r.at:], word) {
			r.at += len(word)
			return word == "true"
		}
	}
	panic(errTree)
}

func (r *treeReader) number() string {
	start := r.at
	for c := r.peek(); c == '-' || isDigit(c); c = r.peek() {
		r.at++
	}
	return r.s[start:r.at]
}

// text reads a string.
func (r *treeReader) text() string {
	r.expect('"')
	start := r.at
	for {
		switch r.peek() {
		case '"':
			r.at++
			return r.s[start : r.at-1]
		case '\\':
			return r.escaped(start)
		}
		r.at++
	}
}

// escapes are those of the parser's; characters below the space come as \u00….
var escapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\'}

// escaped goes on with a string that has escapes.
func (r *treeReader) escaped(start int) string {
	b := []byte(r.s[start:r.at])
	for {
		c := r.peek()
		r.at++
		switch c {
		case '"':
			return string(b)
		case '\\':
			c = r.peek()
			r.at++
			if c != 'u' {
				c, known := escapes[c]
				if !known {
					panic(errTree)
				}
				b = append(b, c)
				continue
			}
			if r.at+4 > len(r.s) {
				panic(errTree)
			}
			n, err := strconv.ParseUint(r.s[r.at:r.at+4], 16, 7)
			if err != nil {
				panic(errTree)
			}
			r.at += 4
			b = append(b, byte(n))
		default:
			b = append(b, c)
		}
	}
}
