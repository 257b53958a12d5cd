package reviews

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

// MaxDocument is how large a document of the access repo may be, in bytes.
const MaxDocument = strictyaml.DefaultMaxBytes

// ParseConfig reads sallyport.yaml. Like all Parse functions it checks everything
// that the file alone can show, fills defaults, and reports all
// problems at once: the error is a Problems.
func ParseConfig(path string, b []byte) (*Config, error) {
	spec := ConfigSpec{
		Branch:            "main",
		Freshness:         Freshness{ValidFor: Duration(day)},
		Audit:             Audit{Branch: "audit"},
		MaxReviewLifetime: Duration(90 * day),
	}
	c := parse(path, b, KindConfig, &spec)
	c.config(&spec)
	if spec.Audit.Repository == "" {
		spec.Audit.Repository = spec.Repository
	}
	return &Config{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

// ParseRoot reads trust/root.yaml.
func ParseRoot(path string, b []byte) (*Root, error) {
	var spec RootSpec
	c := parse(path, b, KindRoot, &spec)
	c.root(&spec)
	return &Root{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

// ParsePrincipal reads a file of principals/.
func ParsePrincipal(path string, b []byte) (*Principal, error) {
	var spec PrincipalSpec
	c := parse(path, b, KindPrincipal, &spec)
	c.principal(&spec)
	return &Principal{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

// ParseConnection reads a file of connections/. Its Catalog stays nil.
func ParseConnection(path string, b []byte) (*Connection, error) {
	var spec ConnectionSpec
	c := parse(path, b, KindConnection, &spec)
	port := 5432
	switch spec.Protocol {
	case "ssh":
		port = 22
	case "kubernetes":
		port = 6443
	}
	if spec.Protocol != "ssh" && !c.lines.Has("spec.target.tls") {
		spec.Target.TLS = "verify-full"
	}
	if !c.lines.Has("spec.target.port") {
		spec.Target.Port = port
	}
	c.connection(&spec)
	return &Connection{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

// ParseReview reads a file of reviews/.
func ParseReview(path string, b []byte) (*Review, error) {
	var spec ReviewSpec
	c := parse(path, b, KindReview, &spec)
	c.review(&spec)
	return &Review{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

// document is what all documents look like.
type document[S any] struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       Kind     `yaml:"kind"`
	Metadata   Metadata `yaml:"metadata"`
	Spec       *S       `yaml:"spec"`
}

// notYet answers people who use parts of the design that do not exist yet.
var notYet = map[string]string{
	"spec.claims": "OIDC claims are not supported yet",
	"spec.deny":   "deny rules inside a document are not supported yet; what allow does not list is denied, and policies/*.rego can deny more",
}

// parse decodes strictly and checks what all documents share. The returned
// checker goes on collecting problems.
func parse[S any](path string, b []byte, kind Kind, spec *S) *checker {
	doc := document[S]{Spec: spec}
	lines, err := strictyaml.Decode(path, b, &doc, strictyaml.Options{MaxBytes: MaxDocument, NotYet: notYet})
	c := &checker{path: path, kind: kind, bytes: b, lines: lines, metadata: doc.Metadata}
	if err != nil {
		c.decoding = err.(strictyaml.Problems)
	}
	c.header(doc.APIVersion, doc.Kind)
	return c
}

// checker collects the problems of one document.
type checker struct {
	path     string
	kind     Kind
	bytes    []byte
	metadata Metadata
	lines    strictyaml.Lines
	decoding Problems // from the strict loader
	problems Problems // from the checks of meaning
}

// at reports a problem with the value at a path of the document.
func (c *checker) at(path, message, fix string) {
	c.problems = append(c.problems, Problem{Position: c.lines.At(path), Message: message, Fix: fix})
}

// missing reports that a required value is not there.
func (c *checker) missing(path, fix string) {
	if len(c.decoding) > 0 && !c.lines.Has(path) {
		return // most likely it is there, under the mistyped key that was just reported
	}
	name := path[strings.LastIndex(path, ".")+1:]
	if c.lines.Has(path) {
		c.at(path, name+" is empty", fix)
		return
	}
	c.at(path, name+" is missing", fix)
}

// err joins the problems. A value that did not decode is not also reported as
// wrong in meaning.
func (c *checker) err() error {
	if len(c.lines) <= 1 && len(c.decoding) > 0 {
		return c.decoding // nothing was read
	}
	all := append(Problems{}, c.decoding...)
	known := make(map[Position]bool)
	for _, p := range c.decoding {
		known[p.Position] = true
	}
	for _, p := range c.problems {
		if !known[p.Position] {
			all = append(all, p)
		}
	}
	all.Sort()
	return all.Err()
}

func (c *checker) source() Source {
	sum := sha256.Sum256(c.bytes)
	return Source{Path: c.path, Bytes: c.bytes, SHA256: hex.EncodeToString(sum[:]), Lines: specLines(c.lines)}
}

var specElement = regexp.MustCompile(`^spec\.([A-Za-z]+(?:\[[0-9]+\])?)$`)

// specLines keeps the fields of spec and the elements of its lists.
func specLines(lines strictyaml.Lines) map[string]int {
	kept := make(map[string]int)
	for path, position := range lines {
		if m := specElement.FindStringSubmatch(path); m != nil {
			kept[m[1]] = position.Line
		}
	}
	return kept
}

func (c *checker) header(apiVersion string, kind Kind) {
	if apiVersion != APIVersion {
		c.at("apiVersion", "apiVersion has to be "+APIVersion, "write apiVersion: "+APIVersion)
	}
	if kind != c.kind {
		c.at("kind", fmt.Sprintf("a file at %s has kind %s", c.path, c.kind), "write kind: "+string(c.kind)+", or move the file")
	}
	if !c.lines.Has("spec") {
		c.missing("spec", "write spec: and below it what the document says")
	}
	c.repo()
	c.name()
}

func (c *checker) repo() {
	switch repo := c.metadata.Repo; {
	case repo == "":
		c.missing("metadata.repo", "write the repo of "+RootPath)
	case !uuidForm.MatchString(repo):
		c.at("metadata.repo", "repo is not a UUID in lower case", "write the repo of "+RootPath)
	}
}

// name checks that the document says where it stands, so that its signatures
// are worth nothing at another path.
func (c *checker) name() {
	name := c.metadata.Name
	if name == "" {
		c.missing("metadata.name", "write the name that belongs to "+c.path)
		return
	}
	form, rule := nameRule(c.kind)
	if !form.MatchString(name) {
		c.at("metadata.name", "name "+quote(name)+" is not well-formed", rule)
		return
	}
	if want := PathOf(c.kind, name); want != c.path {
		c.at("metadata.name", fmt.Sprintf("name %s belongs to %s, but the file is %s", quote(name), want, c.path), "rename one of the two")
	}
}

var (
	configName    = regexp.MustCompile(`^sallyport$`)
	rootName      = regexp.MustCompile(`^root$`)
	rewindName    = regexp.MustCompile(`^rewind$`)
	extensionName = regexp.MustCompile(`^extension$`)
)

func nameRule(kind Kind) (form *regexp.Regexp, rule string) {
	switch kind {
	case KindConfig:
		return configName, "write name: sallyport"
	case KindRoot:
		return rootName, "write name: root"
	case KindRewind:
		return rewindName, "write name: rewind"
	case KindExtension:
		return extensionName, "write name: extension"
	case KindPrincipal:
		return principalForm, principalRule
	case KindConnection:
		return connectionForm, connectionRule
	}
	return reviewForm, "write connection/name, such as orders-db/etl-nightly, in lower-case letters, digits and dashes"
}

const (
	principalRule  = "write user:, agent:, workload: or program: and up to 63 lower-case letters, digits, dots and dashes, such as agent:etl"
	connectionRule = "write up to 63 lower-case letters, digits and dashes, such as orders-db"
	groupRule      = "write lower-case letters, digits and dashes, such as dba"
)

func quote(s string) string { return `"` + printable(s) + `"` }
