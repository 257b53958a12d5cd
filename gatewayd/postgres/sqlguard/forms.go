package sqlguard

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// form is a mask taken apart: the name, and what stands in its parentheses.
type form struct {
	name  string
	n     int64      // of first and last: characters; of bucket: its width
	with  string     // of json: redact or null
	paths []jsonPath // of json
}

// jsonPath names members of JSON objects from the outermost in; "*" is every one.
type jsonPath []string

const (
	maxPathDepth = 8
	maxPaths     = 32
)

var (
	formText = regexp.MustCompile(`^([a-z]+[0-9]?)(?:\(([^()]*)\))?$`)
	pathText = regexp.MustCompile(`^(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*$`)
)

// errUnknownMask is what all that is no mask is told.
const knownMasks = "use redact, null, email, hash, first(N), last(N), day, week, month, quarter, year, bucket(N) or json(redact PATH …)"

// parseForm reads a mask as documents write it.
func parseForm(with string) (form, error) {
	m := formText.FindStringSubmatch(with)
	if m == nil {
		return form{}, fmt.Errorf("mask %q is not known; %s", with, knownMasks)
	}
	f := form{name: m[1]}
	argument := m[2]
	if open := strings.Contains(with, "("); open != (f.name == "bucket" || f.name == "json" || argument != "") ||
		open && f.name != "first" && f.name != "last" && f.name != "bucket" && f.name != "json" {
		return form{}, fmt.Errorf("mask %q is not known; %s", with, knownMasks)
	}
	switch f.name {
	case "redact", "null", "email", "hash", "day", "week", "month", "quarter", "year":
		return f, nil
	case "last4":
		return form{name: "last", n: 4}, nil
	case "first":
		if argument == "" {
			argument = "1"
		}
		return f.number(argument, 1, 32)
	case "last":
		return f.number(argument, 1, 32)
	case "bucket":
		return f.number(argument, 2, 1e15)
	case "json":
		return f.jsonPaths(strings.Split(argument, " "))
	}
	return form{}, fmt.Errorf("mask %q is not known; %s", with, knownMasks)
}

func (f form) number(argument string, least, most int64) (form, error) {
	n, err := strconv.ParseInt(argument, 10, 64)
	if err != nil || n < least || n > most || argument != strconv.FormatInt(n, 10) {
		return form{}, fmt.Errorf("%s takes a whole number from %d to %d, not %q", f.name, least, most, argument)
	}
	f.n = n
	return f, nil
}

func (f form) jsonPaths(words []string) (form, error) {
	if f.with = words[0]; f.with != "redact" && f.with != "null" || len(words) < 2 || len(words) > maxPaths+1 {
		return form{}, fmt.Errorf("json takes redact or null and 1 to %d paths: json(redact contact.email cards.*.number)", maxPaths)
	}
	for _, word := range words[1:] {
		path := jsonPath(strings.Split(word, "."))
		if !pathText.MatchString(word) || len(path) > maxPathDepth {
			return form{}, fmt.Errorf("json path %q is not 1 to %d names joined by dots, such as contact.email; * is every member", word, maxPathDepth)
		}
		f.paths = append(f.paths, path)
	}
	return f, nil
}

// masker makes the SQL of masks. hash is the function "schema.name" that makes
// stable hashes, "" for hashes under the key of the session.
type masker struct {
	cat  *Catalog
	hash string
}

// HashKeySetting is the setting that holds the key of a session's hashes. The
// engine sends it in the startup packet; statements can neither read nor change it.
const HashKeySetting = "sallyport.hash_key"

// expression is the SQL that stands for a masked column whose raw value is the
// column reference raw. It keeps the column's type (of a domain: its base type,
// which is also what the protocol reports), never raises an error, and for
// redact and null does not read the column.
//
//	            text, varchar(n), char(n), name   int, numeric   float          date, timestamps, time, interval
//	redact      ****                              0              0              1970-01-01, 00:00:00
//	null        null for every type
//	email       a***@***                          -              -              -
//	first(2)    ab***                             -              -              -
//	last(4)     ****6789                          remainder      -              -
//	hash        32 hex digits                     a number       -              -
//	bucket(10)  -                                 20             20             -
//	month       -                                 -              -              its first day, in UTC
//
// redact also has an entry for uuid, bool, bytea, bit strings, json, inet, cidr,
// macaddr, money, xml, tsvector, enums (their first label), ranges (empty) and arrays (empty);
// hash for uuid, json(…) for json and jsonb. All but redact keep NULL as NULL. first and last
// show nothing of a value that is not at least twice as long.
func (m masker) expression(col Column, with, raw string) (string, error) {
	typ, err := castType(col)
	if err != nil {
		return "", err
	}
	f, err := parseForm(with)
	if err != nil {
		return "", err
	}
	expr := ""
	switch f.name {
	case "null":
		expr = "null"
	case "redact":
		expr, err = redaction(m.cat, col)
	case "email", "first", "last":
		expr = f.partial(col, raw)
	case "hash":
		expr, err = m.hashed(col, raw)
	case "bucket":
		expr = f.bucket(col, raw)
	case "json":
		expr = f.json(col, raw)
	default:
		if f.name == "day" && isBuiltIn(col, "date") {
			return "", errors.New("day would show all of a date; use week, month, quarter or year")
		}
		expr = f.truncated(col, raw)
	}
	switch {
	case err != nil:
		return "", err
	case expr == "":
		return "", fmt.Errorf("%s has no form for type %s; use redact or null", f.name, col.Type)
	}
	return "(" + expr + ")::" + typ, nil
}

// isBuiltIn says whether the column's base type is one of those of pg_catalog.
func isBuiltIn(col Column, types ...string) bool {
	for _, t := range types {
		if col.Schema == "pg_catalog" && col.Base == t {
			return true
		}
	}
	return false
}

// partial shows the ends of a value.
func (f form) partial(col Column, raw string) string {
	text := raw + "::pg_catalog.text"
	n := strconv.FormatInt(f.n, 10)
	switch {
	case f.name == "email" && isText(col):
		return "case when " + raw + " is null then null when pg_catalog.strpos(" + text + ", '@') operator(pg_catalog.>) 1 then pg_catalog.left(" +
			text + ", 1) operator(pg_catalog.||) '***@***' else '****' end"
	case f.name == "first" && isText(col):
		return "case when " + raw + " is null then null when pg_catalog.length(" + text + ") operator(pg_catalog.>=) " + strconv.FormatInt(2*f.n, 10) +
			" then pg_catalog.left(" + text + ", " + n + ") operator(pg_catalog.||) '***' else '***' end"
	case f.name == "last" && isText(col):
		return "case when " + raw + " is null then null when pg_catalog.length(" + text + ") operator(pg_catalog.>=) " + strconv.FormatInt(2*f.n, 10) +
			" then '****' operator(pg_catalog.||) pg_catalog.right(" + text + ", " + n + ") else '****' end"
	case f.name == "last" && (isBuiltIn(col, "int4") && f.n <= 4 || isBuiltIn(col, "int8") && f.n <= 9 || isBuiltIn(col, "numeric")):
		finite := ""
		if col.Base == "numeric" {
			finite = " and " + raw + " operator(pg_catalog.<) 'Infinity'::pg_catalog.numeric" // and not NaN
		}
		return "case when " + raw + " is null then null when " + raw + " operator(pg_catalog.>=) 1" + strings.Repeat("0", int(2*f.n-1)) + finite +
			" then pg_catalog.mod(" + raw + ", 1" + strings.Repeat("0", int(f.n)) + ") else 0 end"
	}
	return ""
}

// bucket rounds a number towards 0, which cannot overflow.
func (f form) bucket(col Column, raw string) string {
	width := strconv.FormatInt(f.n, 10)
	switch {
	case isBuiltIn(col, "int2", "int4", "int8"):
		return "(" + raw + " operator(pg_catalog./) " + width + ") operator(pg_catalog.*) " + width
	case isBuiltIn(col, "numeric"):
		return "pg_catalog.div(" + raw + ", " + width + ") operator(pg_catalog.*) " + width
	case isBuiltIn(col, "float4", "float8"):
		value := raw + "::pg_catalog.float8"
		return "case when " + raw + " is null then null when pg_catalog.abs(" + value + ") operator(pg_catalog.>) 1e300 or pg_catalog.abs(" + value + ") operator(pg_catalog.<) " + width +
			" then 0 else pg_catalog.trunc(" + value + " operator(pg_catalog./) " + width + ") operator(pg_catalog.*) " + width + " end"
	}
	return ""
}

// truncated is the first moment of the day, week, … in UTC, whatever time zone
// the session has: with one of its choice a client could find the time within it.
// What lies outside the years 1 to 9999, infinity too, becomes NULL.
func (f form) truncated(col Column, raw string) string {
	within := func(typ, zone, expr string) string {
		return "case when " + raw + " operator(pg_catalog.>=) '0001-01-01" + zone + "'::" + typ + " and " + raw + " operator(pg_catalog.<) '9999-12-31" + zone + "'::" + typ +
			" then " + expr + " end"
	}
	unit := "'" + f.name + "'"
	switch {
	case isBuiltIn(col, "date"):
		return within("pg_catalog.date", "", "pg_catalog.date_trunc("+unit+", "+raw+"::pg_catalog.timestamp)")
	case isBuiltIn(col, "timestamp"):
		return within("pg_catalog.timestamp", " 00:00:00", "pg_catalog.date_trunc("+unit+", "+raw+")")
	case isBuiltIn(col, "timestamptz"):
		return within("pg_catalog.timestamptz", " 00:00:00+00", "pg_catalog.timezone('UTC', pg_catalog.date_trunc("+unit+", pg_catalog.timezone('UTC', "+raw+")))")
	}
	return ""
}

// hashed is a keyed hash: equal values of one session look equal, and nothing
// else can be told. Without a function, the key lives in a setting that the engine gives the session.
func (m masker) hashed(col Column, raw string) (string, error) {
	text := raw + "::pg_catalog.text"
	switch {
	case col.Base == "citext":
		text = "pg_catalog.lower(" + text + ")"
	case isBuiltIn(col, "numeric"):
		text = "pg_catalog.trim_scale(" + raw + ")::pg_catalog.text"
	}
	hex := "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to((" + sessionKey + ") operator(pg_catalog.||) pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(" +
		"(" + sessionKey + ") operator(pg_catalog.||) " + text + ", 'UTF8')), 'hex'), 'UTF8')), 'hex')"
	if m.hash != "" {
		schema, name, _ := strings.Cut(m.hash, ".")
		if len(m.cat.functions) == 0 || !containsObject(m.cat.functions[name], schema) {
			return "", fmt.Errorf("hash needs function %s, which the catalog does not have; make it with the SQL of sallyport harden, then pull the catalog again", m.hash)
		}
		hex = quoteQualified(schema, name) + "(" + text + ")"
	}
	switch {
	case isText(col) && roomFor(col, 16):
		return "pg_catalog.left(" + hex + ", 32)", nil
	case isBuiltIn(col, "uuid"):
		return "pg_catalog.left(" + hex + ", 32)", nil
	case isBuiltIn(col, "int8"), isBuiltIn(col, "numeric") && col.BaseType == "numeric":
		return "('x' operator(pg_catalog.||) pg_catalog.left(" + hex + ", 15))::pg_catalog.bit(60)::pg_catalog.int8", nil
	case isBuiltIn(col, "int4"):
		return "('x' operator(pg_catalog.||) pg_catalog.left(" + hex + ", 7))::pg_catalog.bit(28)::pg_catalog.int4", nil
	}
	return "", fmt.Errorf("hash has no form for type %s; use redact or null", col.Type)
}

// sessionKey is NULL, which makes every hash NULL, when the session was given no key.
const sessionKey = "case when pg_catalog.length(" + hashKeySetting + ") operator(pg_catalog.>=) 32 then " + hashKeySetting + " end"

const hashKeySetting = "pg_catalog.current_setting('" + HashKeySetting + "')"

func containsObject(objects []Object, schema string) bool {
	for _, o := range objects {
		if o.Schema == schema {
			return true
		}
	}
	return false
}

// roomFor says whether a text type holds n characters.
func roomFor(col Column, n int) bool {
	_, size, found := strings.Cut(strings.TrimSuffix(col.BaseType, ")"), "(")
	if !found {
		return col.Base != "bpchar" || col.BaseType == "bpchar"
	}
	have, err := strconv.Atoi(size)
	return err == nil && have >= n
}
