package ci

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/sallyport-dev/sallyport/reviews"
)

var update = flag.Bool("update", false, "write ci/schemas anew")

// structs are what the documents' specs are decoded into.
var structs = map[reviews.Kind]reflect.Type{
	reviews.KindReview:     reflect.TypeFor[reviews.ReviewSpec](),
	reviews.KindConnection: reflect.TypeFor[reviews.ConnectionSpec](),
	reviews.KindPrincipal:  reflect.TypeFor[reviews.PrincipalSpec](),
	reviews.KindConfig:     reflect.TypeFor[reviews.ConfigSpec](),
	reviews.KindRoot:       reflect.TypeFor[reviews.RootSpec](),
}

// names are the words of names.go in package reviews, as patterns of a schema.
const (
	principalPattern = `^(user|agent|workload|program):[a-z0-9][a-z0-9.-]{0,62}$`
	plainPattern     = `^[a-z0-9][a-z0-9-]{0,62}$`
)

// said is what the structs do not say: enumerations and patterns, by struct and
// field; [] stands for the elements of a list.
var said = map[string]map[string]any{
	"ReviewSpec.requester":      {"pattern": principalPattern},
	"ReviewSpec.subject":        {"pattern": principalPattern},
	"ReviewSpec.connection":     {"pattern": plainPattern},
	"ReviewSpec.sequence":       {"minimum": 1},
	"Rule.verbs":                {"minItems": 1},
	"Rule.verbs[]":              {"enum": reviews.PostgresVerbs},
	"Rule.columns":              {"minItems": 1},
	"Mask.with":                 {"pattern": reviews.MaskPattern},
	"Limits.rows":               {"minimum": 1},
	"Example.expect":            {"enum": reviews.Expectations},
	"ConnectionSpec.protocol":   {"enum": []string{"postgres", "ssh"}},
	"ConnectionSpec.risk":       {"enum": reviews.Risks},
	"ConnectionSpec.credential": {"pattern": `^(env:[A-Za-z_]|file:/|exec:/)`},
	"Target.tls":                {"enum": []string{"verify-full", "disable"}},
	"Target.port":               {"minimum": 1, "maximum": 65535},
	"PrincipalSpec.owner":       {"pattern": `^user:[a-z0-9][a-z0-9.-]{0,62}$`},
	"RootPrincipal.name":        {"pattern": principalPattern},
	"RootSpec.version":          {"minimum": 1},
	"RootSpec.threshold":        {"minimum": 1},
	"ApprovalRule.threshold":    {"minimum": 1},
	"ApprovalMatch.kinds[]":     {"enum": []reviews.Kind{reviews.KindReview, reviews.KindConnection, reviews.KindCatalog, reviews.KindPrincipal, reviews.KindPolicy}},
}

// required are the fields that have no default, by struct.
var required = map[string][]string{
	"ReviewSpec":     {"sequence", "requester", "subject", "connection", "validity", "justification"},
	"Mask":           {"with"},
	"Validity":       {"notBefore", "expires"},
	"Justification":  {"reason"},
	"Example":        {"run", "expect"},
	"ConnectionSpec": {"protocol", "target", "credential"},
	"Target":         {"host", "user"},
	"PrincipalSpec":  {"keys"},
	"Key":            {"key"},
	"ConfigSpec":     {"repository", "approvals"},
	"ApprovalRule":   {"mode", "threshold", "groups"},
	"RootSpec":       {"version", "threshold", "principals", "groups", "release"},
	"RootPrincipal":  {"name", "keys"},
	"Gateway":        {"name", "key"},
	"Revocation":     {"reason"},
}

// comments are those of the fields of package reviews: "Rule.verbs" by Go names, "Rule.Verbs".
func comments(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	files, err := filepath.Glob("../reviews/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package reviews: %v", err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			for _, field := range fields.Fields.List {
				for _, name := range field.Names {
					text := field.Doc.Text() + field.Comment.Text()
					all[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(text), " ")
				}
			}
			return false
		})
	}
	return all
}

type generator struct{ comments map[string]string }

// schema is that of a type; says is where said knows it.
func (g generator) schema(t reflect.Type, says string) map[string]any {
	s := map[string]any{}
	switch {
	case t == reflect.TypeFor[time.Time]():
		s["type"], s["pattern"] = "string", `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$`
	case t == reflect.TypeFor[reviews.Duration]():
		s["type"], s["pattern"] = "string", `^(\d{1,7}h)?(\d{1,9}m)?(\d{1,9}s)?$`
	case t.Kind() == reflect.Struct:
		return g.object(t)
	case t.Kind() == reflect.Slice:
		s["type"], s["items"] = "array", g.schema(t.Elem(), says+"[]")
	case t.Kind() == reflect.Map:
		s["type"], s["additionalProperties"] = "object", g.schema(t.Elem(), says+"{}")
	case t.Kind() == reflect.String:
		s["type"] = "string"
	case t.Kind() == reflect.Bool:
		s["type"] = "boolean"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		s["type"] = "integer"
	default:
		panic(fmt.Sprintf("no schema for %s", t))
	}
	for k, v := range said[says] {
		s[k] = v
	}
	return s
}

func (g generator) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" || name == "" {
			continue
		}
		p := g.schema(f.Type, t.Name()+"."+name)
		if text := g.comments[t.Name()+"."+f.Name]; text != "" {
			p["description"] = text
		}
		properties[name] = p
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if names := required[t.Name()]; names != nil {
		s["required"] = names
	}
	return s
}

func (g generator) document(kind reviews.Kind) []byte {
	s := g.object(reflect.TypeFor[reviews.Metadata]())
	s["required"] = []string{"repo", "name"}
	doc := map[string]any{
		"$schema":              "http://json-schema.org/draft-07/schema#",
		"title":                string(kind),
		"type":                 "object",
		"additionalProperties": false,
		"required":             []string{"apiVersion", "kind", "metadata", "spec"},
		"properties": map[string]any{
			"apiVersion": map[string]any{"const": reviews.APIVersion},
			"kind":       map[string]any{"const": string(kind)},
			"metadata":   s,
			"spec":       g.object(structs[kind]),
		},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// The committed schemas are what the structs and their comments make.
func TestSchemas(t *testing.T) {
	g := generator{comments(t)}
	used := make(map[string]bool)
	for _, kind := range SchemaKinds {
		made := g.document(kind)
		file := filepath.Join("schemas", string(kind)+".json")
		if *update {
			if err := os.WriteFile(file, made, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !bytes.Equal(made, Schema(kind)) {
			t.Errorf("%s is not what the structs of package reviews say: go test ./ci -run 'TestSchemas$' -update", file)
		}
		for _, m := range regexp.MustCompile(`"(\w+)": \{`).FindAllSubmatch(made, -1) {
			used[string(m[1])] = true
		}
	}
	if Schema(reviews.KindPolicy) != nil || Schema("../schema") != nil {
		t.Error("a schema of what has none")
	}
	if *update {
		return
	}
	for _, m := range []map[string]bool{keysOf(said), keysOf(required)} {
		for path := range m {
			_, field, found := strings.Cut(path, ".")
			if field = strings.TrimRight(field, "[]{}"); found && !used[field] {
				t.Errorf("%s is said about nothing", path)
			}
		}
	}
}

func keysOf[V any](m map[string]V) map[string]bool {
	keys := make(map[string]bool)
	for k := range m {
		keys[k] = true
	}
	return keys
}

// validate is the part of JSON Schema that our schemas use; anything else in one fails.
func validate(schema map[string]any, v any, at string) error {
	for word := range schema {
		if !slices.Contains([]string{"$schema", "title", "description", "type", "additionalProperties", "required", "properties", "const", "enum",
			"pattern", "minimum", "maximum", "minItems", "items"}, word) {
			return fmt.Errorf("the schema uses %q at %s", word, at)
		}
	}
	if want, ok := schema["const"]; ok && v != want {
		return fmt.Errorf("%s: %v is not %v", at, v, want)
	}
	if list, ok := schema["enum"].([]any); ok && !slices.Contains(list, v) {
		return fmt.Errorf("%s: %v is not one of %v", at, v, list)
	}
	switch schema["type"] {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: %T is no object", at, v)
		}
		return validateObject(schema, m, at)
	case "array":
		list, ok := v.([]any)
		if least, bound := schema["minItems"].(float64); !ok || bound && float64(len(list)) < least {
			return fmt.Errorf("%s: %v is no array, or too short", at, v)
		}
		for i, e := range list {
			if err := validate(schema["items"].(map[string]any), e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "string":
		s, ok := v.(string)
		if pattern, bound := schema["pattern"].(string); !ok || bound && !regexp.MustCompile(pattern).MatchString(s) {
			return fmt.Errorf("%s: %v is no string that matches %v", at, v, schema["pattern"])
		}
	case "integer":
		n, ok := v.(int)
		if !ok {
			return fmt.Errorf("%s: %T is no integer", at, v)
		}
		if least, bound := schema["minimum"].(float64); bound && float64(n) < least {
			return fmt.Errorf("%s: %d is too small", at, n)
		}
		if most, bound := schema["maximum"].(float64); bound && float64(n) > most {
			return fmt.Errorf("%s: %d is too large", at, n)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("%s: %T is no boolean", at, v)
		}
	}
	return nil
}

func validateObject(schema, m map[string]any, at string) error {
	properties, _ := schema["properties"].(map[string]any)
	for name, e := range m {
		sub, known := properties[name].(map[string]any)
		if !known {
			if sub, known = schema["additionalProperties"].(map[string]any); !known {
				return fmt.Errorf("%s: unknown field %s", at, name)
			}
		}
		if err := validate(sub, e, at+"."+name); err != nil {
			return err
		}
	}
	names, _ := schema["required"].([]any)
	for _, name := range names {
		if _, there := m[name.(string)]; !there {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	return nil
}

func validates(t *testing.T, kind reviews.Kind, document []byte) error {
	t.Helper()
	var schema, v map[string]any
	if err := json.Unmarshal(Schema(kind), &schema); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(document, &v); err != nil {
		return err
	}
	return validate(schema, v, "document")
}

// What the strict loader accepts, no editor marks: every sample document, and every
// document of every valid change.
func TestSchemasAcceptWhatTheLoaderAccepts(t *testing.T) {
	checked := 0
	check := func(name string, b []byte) {
		kind := reviews.KindOf(name)
		if Schema(kind) == nil {
			return
		}
		checked++
		if err := validates(t, kind, b); err != nil {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
	sample := os.DirFS("../testdata/access")
	err := fs.WalkDir(sample, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(sample, name)
		check(name, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	base := newAccess(t)
	for _, s := range validSteps() {
		a := base.fork(t)
		s.bend(a)
		for name, f := range a.files {
			if old := base.files[name]; old == nil || !bytes.Equal(old.Data, f.Data) || s.name == "nothing" {
				check(name, f.Data)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d documents", checked)
	}
}

// Documents of an ssh host and the fields of which only one is needed, which the samples do not have.
func TestSchemasAcceptTheOtherForms(t *testing.T) {
	const meta = "apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: 0b2c5e0a-1d2b-4c3a-9e8f-0a1b2c3d4e5f, name: %s}\nspec:\n"
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	connection := fmt.Sprintf(meta, "Connection", "web") + "  protocol: ssh\n  target: {host: web, user: deploy, hostKeys: [\"" + key + "\"]}\n  credential: env:KEY\n" +
		"  mask:\n    - {detect: card, with: redact}\n    - {pattern: \"token=[a-z]+\", with: redact}\n"
	if _, err := reviews.ParseConnection("connections/web.yaml", []byte(connection)); err != nil {
		t.Fatal(err)
	}
	review := fmt.Sprintf(meta, "AccessReview", "web/etl") + "  sequence: 1\n  requester: user:alice\n  subject: agent:etl\n  connection: web\n" +
		"  allow:\n    - {exec: [systemctl, status, \"*\"]}\n    - {sftp: read, path: /var/log/app.log}\n    - {shell: true}\n" +
		"  validity: {notBefore: \"2026-11-24T10:00:00Z\", expires: \"2026-11-25T10:00:00Z\"}\n  justification: {reason: a look}\n"
	if _, err := reviews.ParseReview("reviews/web/etl.yaml", []byte(review)); err != nil {
		t.Fatal(err)
	}
	root := fmt.Sprintf(meta, "TrustRoot", "root") + "  version: 1\n  threshold: 1\n  principals:\n    - {name: \"user:bob\", keys: [{key: \"" + key + "\"}]}\n" +
		"  groups: {root: [\"user:bob\"]}\n  release: [{key: \"" + key + "\"}]\n  revoked: [{principal: \"user:eve\", reason: left}]\n"
	for kind, text := range map[reviews.Kind]string{reviews.KindConnection: connection, reviews.KindReview: review, reviews.KindRoot: root} {
		if err := validates(t, kind, []byte(text)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// What an editor can mark, it marks: typing errors, wrong types, wrong words.
func TestSchemasRefuseWhatIsMistyped(t *testing.T) {
	text := reviewText("orders-db/etl", 5, "")
	for from, to := range map[string]string{
		"  hold:\n": "  hodl:\n", "[delete]": "[destroy]", "sequence: 5": `sequence: "5"`, "expect: deny": "expect: maybe",
		"apiVersion: sallyport.dev/v1": "apiVersion: sallyport.dev/v2", "requester: \"user:alice\"": "requester: alice", "  justification": "  x-justification",
		"2027-03-01T00:00:00Z": "2027-03-01", "verbs: [select]": "verbs: select",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("no %q", from)
		}
		if err := validates(t, reviews.KindReview, []byte(strings.Replace(text, from, to, 1))); err == nil {
			t.Errorf("%q for %q is not marked", to, from)
		}
	}
	if err := validates(t, reviews.KindConnection, []byte(strings.Replace(connectionText("orders-db", ""), "risk: high", "risk: hihg", 1))); err == nil {
		t.Error("hihg is not marked")
	}
}

func TestEditorLine(t *testing.T) {
	for doc, want := range map[string]string{
		"sallyport.yaml": "# yaml-language-server: $schema=.sallyport/schemas/Config.json", etlPath: "# yaml-language-server: $schema=../../.sallyport/schemas/AccessReview.json",
	} {
		if got := EditorLine(reviews.KindOf(doc), doc); got != want {
			t.Errorf("%s: %s", doc, got)
		}
	}
}
