package ci

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sallyport-dev/sallyport"

// arrows are all imports between our own packages that are allowed outside of
// tests; cmd may import everything. Data flows one way: git, reviews, policies,
// releases, gatewayd, engines. A package that is not listed imports none of ours.
var arrows = map[string][]string{
	"bucket":                     {},
	"reviews":                    {"reviews/strictyaml"},
	"reviews/forge":              {},
	"reviews/gitrepo":            {},
	"reviews/strictyaml":         {},
	"policies":                   {"reviews"},
	"policies/release":           {"policies", "reviews"},
	"policies/syncer":            {"policies", "policies/release", "reviews", "reviews/forge", "reviews/gitrepo"},
	"gatewayd":                   {"gatewayd/credential", "gatewayd/identity", "gatewayd/record", "policies", "policies/release", "reviews"},
	"gatewayd/admin":             {"gatewayd"},
	"gatewayd/credential":        {},
	"gatewayd/identity":          {"reviews"},
	"gatewayd/record":            {"policies"},
	"gatewayd/kube":              {"gatewayd", "gatewayd/identity", "gatewayd/kube/call", "gatewayd/kube/jsonmask", "gatewayd/record", "gatewayd/redact", "policies", "reviews"}, // identity: to find a token's session
	"gatewayd/kube/call":         {"policies"},
	"gatewayd/kube/jsonmask":     {}, // text in, text out
	"gatewayd/postgres":          {"gatewayd", "gatewayd/credential", "gatewayd/postgres/detect", "gatewayd/postgres/sqlguard", "gatewayd/record", "policies", "policies/release", "reviews"},
	"gatewayd/postgres/detect":   {}, // guesses from names and values, for people to look at
	"gatewayd/postgres/sqlguard": {"policies"},
	"gatewayd/redact":            {},
	"gatewayd/sshd":              {"gatewayd", "gatewayd/record", "gatewayd/redact", "gatewayd/sshd/cmdline", "policies", "reviews"},
	"gatewayd/sshd/cmdline":      {"policies"},
	"internal/accesstest":        {"policies/release", "reviews"},
	"internal/peers":             {},
	"internal/s3test":            {},
	"internal/benchsync": {
		"gatewayd", "gatewayd/credential", "gatewayd/identity", "gatewayd/record", "internal/accesstest", "internal/peers",
		"policies", "policies/release", "policies/syncer", "reviews", "reviews/gitrepo",
	}, // the whole way from a commit to a session, to measure it
	"ci": {"policies", "reviews"},
}

// homes are the only packages that import a module, and why.
var homes = map[string]struct {
	homes []string
	why   string
}{
	"github.com/go-git/go-git":            {[]string{"reviews/gitrepo"}, "fourteen advisories in two years: one place to mend"},
	"github.com/google/go-github":         {[]string{"reviews/forge"}, "it reads Gitea as well, and there gets approvals wrong"},
	"github.com/open-policy-agent/opa":    {[]string{"policies"}, "it is run shut, and nobody may open it by the way"},
	"gopkg.in/yaml.v3":                    {[]string{"reviews/strictyaml"}, "a second reader of YAML is a second opinion of what was signed"},
	"github.com/hiddeco/sshsig":           {[]string{"reviews"}, "one signature format, one list of namespaces"},
	"github.com/pganalyze/pg_query_go":    {[]string{"gatewayd/postgres/sqlguard"}, "what it does not understand must be refused in one place"},
	"github.com/jackc/pgproto3":           {[]string{"gatewayd/postgres"}, "it panics on hostile input unless our frame reader looked first"},
	"github.com/prometheus/client_golang": {[]string{"gatewayd/admin"}, "metrics are a view of the status and nothing else"},
	"github.com/spf13/cobra":              {[]string{"cmd/sallyport", "cmd/gatewayd", "cmd/demo"}, "packages are not command lines"},
	"github.com/jackc/pgx":                {[]string{"gatewayd/postgres", "internal/peers"}, "only the engine logs in to targets"},
	"github.com/nyaruka/phonenumbers":     {[]string{"gatewayd/postgres/detect"}, "only proposals are made with it; nothing is enforced by guesses"},
	"gocloud.dev":                         {[]string{"bucket"}, "object storage is a place for files and nothing else"},
	"github.com/aws":                      {[]string{"bucket"}, "it finds credentials in many places; those who use a bucket give it none"},
	"github.com/johannesboyne/gofakes3":   {[]string{"internal/s3test"}, "it is for tests: it checks no credentials"},
	"github.com/coder/websocket":          {[]string{"gatewayd/kube"}, "only its streams are upgraded connections"},
	"github.com/hashicorp/golang-lru":     {[]string{"gatewayd", "gatewayd/postgres", "reviews/gitrepo"}, "plans, guards and git objects are the only caches"},
}

// source is one package outside of tests.
type source struct {
	imports []string // paths
	docs    int      // files with a package comment
}

func sources(t *testing.T) map[string]*source {
	t.Helper()
	all := map[string]*source{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		p := all[path.Dir(name)]
		if p == nil {
			p = &source{}
			all[path.Dir(name)] = p
		}
		if f.Doc != nil {
			p.docs++
		}
		for _, i := range f.Imports {
			p.imports = append(p.imports, strings.Trim(i.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

func TestArrows(t *testing.T) {
	for name, p := range sources(t) {
		if strings.HasPrefix(name, "cmd/") {
			continue
		}
		for _, i := range p.imports {
			own, ok := strings.CutPrefix(i, module+"/")
			if ok && !slices.Contains(arrows[name], own) && !strings.HasPrefix(name, "internal/peers/") {
				t.Errorf("%s imports %s: that arrow is not in the design; move the decision, not the import", name, own)
			}
		}
	}
}

func TestEachDependencyHasOneHome(t *testing.T) {
	for name, p := range sources(t) {
		for _, i := range p.imports {
			for dependency, home := range homes {
				if (i == dependency || strings.HasPrefix(i, dependency+"/")) && !slices.Contains(home.homes, name) {
					t.Errorf("%s imports %s, which belongs to %v: %s", name, i, home.homes, home.why)
				}
			}
		}
	}
}

func TestEachPackageHasOneComment(t *testing.T) {
	for name, p := range sources(t) {
		if p.docs != 1 {
			t.Errorf("%s has %d package comments, want 1", name, p.docs)
		}
	}
}

// The gateway must work where git and forges do not exist.
func TestGatewayNeverReachesGit(t *testing.T) {
	all := sources(t)
	var reaches func(name string, seen map[string]bool) bool
	reaches = func(name string, seen map[string]bool) bool {
		if seen[name] || all[name] == nil {
			return false
		}
		seen[name] = true
		return name == "reviews/gitrepo" || slices.ContainsFunc(all[name].imports, func(i string) bool {
			own, ok := strings.CutPrefix(i, module+"/")
			return ok && reaches(own, seen)
		})
	}
	for _, name := range []string{"gatewayd", "gatewayd/postgres", "gatewayd/kube", "gatewayd/admin"} {
		if reaches(name, map[string]bool{}) {
			t.Errorf("%s reaches reviews/gitrepo: releases come in through a watch, summaries leave through a func", name)
		}
	}
}
