package strictyaml

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// maxInteger is the largest integer that every JSON reader keeps exactly.
const maxInteger = 1 << 53

// TimeLayout is the one accepted form of a time, always quoted, always UTC.
const TimeLayout = "2006-01-02T15:04:05Z"

var (
	timeType = reflect.TypeFor[time.Time]()
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()

	integerForm   = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	timeForm      = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`)
	ambiguousForm = regexp.MustCompile(`^(?:` +
		`|~|[Nn]ull|NULL|=|<<` +
		`|(?i:y|yes|n|no|true|false|on|off)` +
		`|[-+]?[0-9][0-9_]*` + // integers, 010 among them
		`|[-+]?0(?i:x[0-9a-f_]+|o[0-7_]+|b[01_]+)` +
		`|[-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?` + // 1.5, 1e3
		`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?` + // 1:30 is 90 to some
		`|[-+]?\.(?i:inf)|\.(?i:nan)` +
		`|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?` +
		`)$`)
)

const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func isPlain(n *yaml.Node) bool { return n.Style&quoted == 0 }

// isNull reports a value that is absent: nothing, or one of YAML's words for it.
func isNull(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || !isPlain(n) {
		return false
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// scalar decodes a value that is not a list, map or struct.
func (d *decoder) scalar(n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.problem(n, "one value is expected here, not a "+kindName(n), "write a single value, in double quotes where in doubt")
		return
	}
	switch {
	case out.Type() == timeType:
		d.time(n, out)
	case out.CanAddr() && out.Addr().Type().Implements(textType):
		d.text(n, out)
	case out.Kind() == reflect.String:
		if d.isText(n) {
			out.SetString(n.Value)
		}
	case out.Kind() == reflect.Bool:
		d.boolean(n, out)
	case out.CanInt():
		d.integer(n, out)
	default:
		panic(fmt.Sprintf("strictyaml: cannot decode into %s", out.Type()))
	}
}

// isText accepts a scalar as text. A word that some YAML reader takes for
// something else has to be quoted, so that no two readers disagree.
func (d *decoder) isText(n *yaml.Node) bool {
	if isPlain(n) && ambiguousForm.MatchString(n.Value) {
		d.problem(n, "text is expected here, and some programs read this value as a number, date or boolean", "write it in double quotes")
		return false
	}
	for _, r := range n.Value {
		if what := forbidden(r); what != "" {
			d.problem(n, fmt.Sprintf("the value contains %s (U+%04X)", what, r), "delete it")
			return false
		}
	}
	return true
}

func (d *decoder) text(n *yaml.Node, out reflect.Value) {
	if !d.isText(n) {
		return
	}
	u := out.Addr().Interface().(encoding.TextUnmarshaler)
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		message, fix, _ := strings.Cut(err.Error(), "; ")
		d.problem(n, message, cmp.Or(fix, "correct it"))
	}
}

func (d *decoder) boolean(n *yaml.Node, out reflect.Value) {
	if !isPlain(n) || (n.Value != "true" && n.Value != "false") {
		d.problem(n, "a boolean is expected here", "write true or false, without quotes")
		return
	}
	out.SetBool(n.Value == "true")
}

func (d *decoder) integer(n *yaml.Node, out reflect.Value) {
	if !isPlain(n) || !integerForm.MatchString(n.Value) {
		d.problem(n, "a whole number is expected here", "write decimal digits only, without quotes, leading zeros, exponents or separators")
		return
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || v > maxInteger || v < -maxInteger || out.OverflowInt(v) {
		d.problem(n, "the number is too large", fmt.Sprintf("at most %d is allowed", limitOf(out)))
		return
	}
	out.SetInt(v)
}

func limitOf(out reflect.Value) int64 {
	return min(maxInteger, int64(math.MaxInt64)>>(64-out.Type().Bits()))
}

func (d *decoder) time(n *yaml.Node, out reflect.Value) {
	const fix = `write UTC in quotes, such as "2026-11-23T00:00:00Z"`
	if isPlain(n) {
		d.problem(n, "a time has to be quoted", fix)
		return
	}
	if !timeForm.MatchString(n.Value) {
		d.problem(n, "this is not a time in UTC to the second", fix)
		return
	}
	t, err := time.Parse(TimeLayout, n.Value)
	if err != nil {
		d.problem(n, "there is no such day or time of day", fix)
		return
	}
	if t.Year() < 2000 || t.Year() > 2199 {
		d.problem(n, "the year has to be between 2000 and 2199", fix)
		return
	}
	out.Set(reflect.ValueOf(t))
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	case yaml.ScalarNode:
		return "single value"
	}
	return "YAML alias"
}
