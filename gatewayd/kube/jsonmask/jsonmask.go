// Package jsonmask hides fields of Kubernetes objects in what an API server
// answers: objects, lists, tables, watch events, and what kubectl keeps of an object in an
// annotation. It works on the JSON text, copies what is not hidden byte for byte, and
// needs memory for one object of a list, not for the list.
//
// The values of Secrets are hidden wherever an object of that kind is, also
// within another object or in JSON that is in a string. Text that is no JSON is
// an error: then nothing of it may go on.
package jsonmask

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// What stands in place of a value. Both are told apart from real values by their text: see Carried.
const (
	Mark       = "[masked by sallyport]"
	MarkBase64 = "W21hc2tlZCBieSBzYWxseXBvcnRd" // where bytes are expected
)

const (
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	maxDepth    = 512
	maxNested   = 4 // JSON in strings in JSON
)

// Mask is one field that is hidden.
type Mask struct {
	Path []string // from the object's top; "*" is every member or element
	Null bool     // instead of Mark
}

// Rules are what is hidden in the objects of one resource. Immutable.
type Rules struct {
	root    *node
	secrets bool // root has what Secrets need
	// Text, when not nil, looks through every string that is not hidden, and returns it as it may leave.
	Text func(string) string
}

// how a value is hidden.
type how byte

const (
	keep how = iota
	text
	base64
	null
	empty // a list of nothing
)

// node is what is known of a value at some place of an object.
type node struct {
	how   how
	named map[string]*node
	any   *node // of every member or element that is not in named
}

var (
	secret     = secrets()
	secretList = secrets("items", "*")
)

// secrets are what is hidden in a Secret that is at a path.
func secrets(path ...string) *node {
	n := &node{}
	n.hide(append(path, "data", "*"), base64)
	n.hide(append(path, "stringData", "*"), text)
	n.hide(append(path, managedFields...), empty)
	return n.resolve(nil)
}

var managedFields = []string{"metadata", "managedFields"} // they name values of lists

// New makes the rules of a resource, "secrets" or "deployments.apps". Those of Secrets hide all values without being told.
func New(resource string, masks []Mask) *Rules {
	n := &node{}
	if resource == "secrets" {
		n = union(n, secret)
	}
	for _, m := range masks {
		if m.Null {
			n.hide(m.Path, null)
		} else {
			n.hide(m.Path, text)
		}
	}
	if len(n.named) == 0 && n.any == nil {
		return &Rules{}
	}
	n.hide(managedFields, empty)
	return &Rules{root: n.resolve(nil), secrets: resource == "secrets"}
}

// Masks reports whether objects of the resource have anything to hide.
func (r *Rules) Masks() bool { return r.root != nil }

func (n *node) hide(path []string, h how) {
	for _, step := range path {
		var next *node
		if step == "*" {
			if n.any == nil {
				n.any = &node{}
			}
			next = n.any
		} else {
			if n.named == nil {
				n.named = map[string]*node{}
			}
			if n.named[step] == nil {
				n.named[step] = &node{}
			}
			next = n.named[step]
		}
		n = next
	}
	n.how = h
}

// resolve makes a node in which the named members also have what is known of any.
func (n *node) resolve(more *node) *node {
	n = union(n, more)
	if n == nil {
		return nil
	}
	for name, child := range n.named {
		n.named[name] = child.resolve(n.any)
	}
	n.any = n.any.resolve(nil)
	return n
}

// union is a new node that hides what either hides.
func union(a, b *node) *node {
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil:
		a = &node{}
	case b == nil:
		b = &node{}
	}
	n := &node{how: max(a.how, b.how), any: union(a.any, b.any)}
	for _, from := range []*node{a, b} {
		for name, child := range from.named {
			if n.named == nil {
				n.named = map[string]*node{}
			}
			n.named[name] = union(n.named[name], child)
		}
	}
	return n
}

func (n *node) child(name []byte) *node {
	if n == nil {
		return nil
	}
	if c := n.named[string(name)]; c != nil {
		return c
	}
	return n.any
}

// Document hides what has to be in one JSON text and counts the objects of its list. The result may share src's memory.
func (r *Rules) Document(src []byte) (out []byte, items int, err error) {
	w := &rewriter{src: src, rules: r}
	if err := w.whole(true); err != nil {
		return nil, 0, err
	}
	return w.finish(), w.items, nil
}

// ErrJSON is the error of text that is not JSON, or too deep.
var ErrJSON = errors.New("not the JSON of a Kubernetes object")

// rewriter walks a JSON text once. What it does not replace it copies in as large pieces as possible.
type rewriter struct {
	src    []byte
	pos    int
	out    []byte
	copied int // src[:copied] is in out, or was replaced
	rules  *Rules
	depth  int
	nested int
	items  int
}

func (w *rewriter) finish() []byte {
	if w.copied == 0 {
		return w.src
	}
	return append(w.out, w.src[w.copied:]...)
}

// replace puts text in the place of src[from:pos].
func (w *rewriter) replace(from int, with string) {
	w.out = append(append(w.out, w.src[w.copied:from]...), with...)
	w.copied = w.pos
}

func (w *rewriter) fail() error { return fmt.Errorf("%w at byte %d", ErrJSON, w.pos) }

// whole reads one value and nothing after it. document says that it is an object of the resource, or several.
func (w *rewriter) whole(document bool) error {
	if err := w.value(w.rules.root, document); err != nil {
		return err
	}
	if w.space(); w.pos != len(w.src) {
		return w.fail()
	}
	return nil
}

func (w *rewriter) space() byte {
	for w.pos < len(w.src) {
		switch c := w.src[w.pos]; c {
		case ' ', '\t', '\n', '\r':
			w.pos++
		default:
			return c
		}
	}
	return 0
}

func (w *rewriter) value(n *node, document bool) error {
	c := w.space()
	from := w.pos
	if n != nil && n.how != keep {
		if err := w.skip(); err != nil {
			return err
		}
		w.hide(from, n.how)
		return nil
	}
	switch c {
	case '{':
		return w.object(n, document)
	case '[':
		return w.array(n, document)
	case '"':
		s, err := w.str()
		if err == nil {
			err = w.text(from, s)
		}
		return err
	}
	return w.scalar()
}

// hide replaces the value from there to pos.
func (w *rewriter) hide(from int, h how) {
	switch {
	case string(w.src[from:w.pos]) == "null":
	case h == text:
		w.replace(from, `"`+Mark+`"`)
	case h == base64:
		w.replace(from, `"`+MarkBase64+`"`)
	case h == empty:
		w.replace(from, "[]")
	default:
		w.replace(from, "null")
	}
}

// skip reads a value of which nothing is looked at.
func (w *rewriter) skip() error {
	s := *w
	s.rules = &Rules{}
	s.nested = maxNested
	s.copied = 0
	err := s.value(nil, false)
	w.pos = s.pos
	return err
}

func (w *rewriter) object(n *node, document bool) error { return w.members(n, document, false) }

// members reads an object. certain says that n tells all that is to be hidden.
func (w *rewriter) members(n *node, document, certain bool) error {
	if w.depth++; w.depth > maxDepth {
		return w.fail()
	}
	defer func() { w.depth-- }()
	start, out, copied, items := w.pos, len(w.out), w.copied, w.items
	var isSecret, isList, values bool
	w.pos++
	for first := true; ; first = false {
		switch c := w.space(); {
		case c == '}' && first:
			w.pos++
			return nil
		case c != '"':
			return w.fail()
		}
		key, err := w.key()
		if err != nil {
			return err
		}
		switch {
		case document && string(key) == "items":
			each := w.rules.root
			if list := n.child(key); list != nil {
				each = union(each, list.any)
			}
			err = w.list(n, func() error { w.items++; return w.value(each, true) })
		case document && string(key) == "rows":
			err = w.list(n, func() error { w.items++; return w.row() })
		case document && string(key) == "object":
			err = w.value(w.rules.root, true)
		case string(key) == lastApplied:
			err = w.annotation()
		case string(key) == "kind":
			w.space()
			from := w.pos
			err = w.value(n.child(key), false)
			isSecret = isSecret || string(w.src[from:w.pos]) == `"Secret"`
			isList = isList || string(w.src[from:w.pos]) == `"SecretList"`
		default:
			values = values || string(key) == "data" || string(key) == "stringData"
			err = w.value(n.child(key), false)
		}
		if err != nil {
			return err
		}
		switch w.space() {
		case ',':
			w.pos++
			continue
		case '}':
			w.pos++
		default:
			return w.fail()
		}
		break
	}
	if known := document && w.rules.secrets; certain || known || !(isSecret && values || isList) {
		return nil
	}
	w.out, w.copied, w.pos, w.items = w.out[:out], copied, start, items // once more, now that it is known what it is
	if isSecret {
		n = union(n, secret)
	}
	if isList {
		n = union(n, secretList)
	}
	return w.members(n, document, true)
}

// list reads an array by its elements, and anything else as it would be read without knowing.
func (w *rewriter) list(n *node, element func() error) error {
	if w.space() != '[' {
		return w.value(n, false)
	}
	return w.elements(element)
}

func (w *rewriter) array(n *node, document bool) error {
	var each *node
	if n != nil {
		each = n.any
	}
	return w.elements(func() error { return w.value(each, document) })
}

func (w *rewriter) elements(element func() error) error {
	if w.depth++; w.depth > maxDepth {
		return w.fail()
	}
	defer func() { w.depth-- }()
	w.pos++
	if w.space() == ']' {
		w.pos++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch w.space() {
		case ',':
			w.pos++
		case ']':
			w.pos++
			return nil
		default:
			return w.fail()
		}
	}
}

// row reads a row of a table, whose object is one of the resource.
func (w *rewriter) row() error {
	if w.space() != '{' {
		return w.value(nil, false)
	}
	return w.members(nil, true, false)
}

// key reads the name of a member and the colon after it.
func (w *rewriter) key() ([]byte, error) {
	s, err := w.str()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(s, '\\') >= 0 {
		if s, err = unquote(s); err != nil {
			return nil, w.fail()
		}
	}
	if w.space() != ':' {
		return nil, w.fail()
	}
	w.pos++
	return s, nil
}

// str reads a string and returns what is between its quotes.
func (w *rewriter) str() ([]byte, error) {
	w.pos++
	from := w.pos
	for {
		i := bytes.IndexByte(w.src[w.pos:], '"')
		if i < 0 {
			w.pos = len(w.src)
			return nil, w.fail()
		}
		end := w.pos + i
		slashes := 0
		for end-slashes > from && w.src[end-slashes-1] == '\\' {
			slashes++
		}
		w.pos = end + 1
		if slashes%2 == 0 {
			return w.src[from:end], nil
		}
	}
}

func (w *rewriter) scalar() error {
	from := w.pos
	for w.pos < len(w.src) {
		switch c := w.src[w.pos]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
			w.pos++
			continue
		}
		break
	}
	if s := w.src[from:w.pos]; len(s) == 0 || s[0] >= 'a' && string(s) != "true" && string(s) != "false" && string(s) != "null" {
		return w.fail()
	}
	return nil
}

// annotation reads what kubectl applied last: an object of the resource, as a string.
func (w *rewriter) annotation() error {
	if w.space() != '"' {
		return w.value(nil, false)
	}
	from := w.pos
	s, err := w.str()
	if err != nil {
		return err
	}
	if w.rules.root == nil && w.rules.Text == nil && !bytes.Contains(s, secretWord) {
		return nil
	}
	out, changed, err := w.within(s, w.rules)
	switch {
	case err != nil: // nobody can say what is in it
		w.replace(from, `"`+Mark+`"`)
	case changed:
		w.replace(from, quote(out))
	}
	return nil
}

var secretWord = []byte("Secret")

// text looks at a string that is shown.
func (w *rewriter) text(from int, s []byte) error {
	if w.inner(from, s) || w.rules.Text == nil || len(s) == 0 {
		return nil
	}
	plain, err := unquote(s)
	if err != nil {
		return w.fail()
	}
	if shown := w.rules.Text(string(plain)); shown != string(plain) {
		w.replace(from, quote([]byte(shown)))
	}
	return nil
}

// inner looks for Secrets in a string that is JSON itself, as operators and Helm keep them.
func (w *rewriter) inner(from int, s []byte) (replaced bool) {
	if !beginsJSON(s) || !bytes.Contains(s, secretWord) {
		return false
	}
	if w.nested >= maxNested { // deeper than anybody looks
		w.replace(from, `"`+Mark+`"`)
		return true
	}
	out, changed, err := w.within(s, &Rules{Text: w.rules.Text})
	if err != nil || !changed {
		return false
	}
	w.replace(from, quote(out))
	return true
}

// beginsJSON tells whether what a string holds, which is as it is written, may be an object or an array.
func beginsJSON(s []byte) bool {
	for {
		s = bytes.TrimLeft(s, " ")
		if len(s) < 2 || s[0] != '\\' || !bytes.ContainsRune([]byte("ntr"), rune(s[1])) {
			return len(s) > 1 && (s[0] == '{' || s[0] == '[')
		}
		s = s[2:]
	}
}

// within hides what has to be in the JSON that a string holds.
func (w *rewriter) within(s []byte, rules *Rules) (out []byte, changed bool, err error) {
	plain, err := unquote(s)
	if err != nil {
		return nil, false, err
	}
	if w.nested >= maxNested {
		return nil, false, ErrJSON
	}
	in := &rewriter{src: plain, rules: rules, nested: w.nested + 1, depth: w.depth}
	if err := in.whole(true); err != nil {
		return nil, false, err
	}
	return in.finish(), in.copied > 0, nil
}

func unquote(s []byte) ([]byte, error) {
	var plain string
	err := json.Unmarshal(append(append([]byte{'"'}, s...), '"'), &plain)
	return []byte(plain), err
}

func quote(s []byte) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(string(s)) // of a string it never fails
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
