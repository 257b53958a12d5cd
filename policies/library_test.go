package policies

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
)

// The library's own tests are Rego, beside it.
func TestLibrary(t *testing.T) {
	results, coverage := runLibraryTests(t, libraryModules(), librarySource(t))
	if len(results) < 20 {
		t.Errorf("only %d tests ran", len(results))
	}
	for _, r := range results {
		if !r.Passed {
			t.Errorf("%s %s: %s", r.Position, r.Name, r.Message)
		}
	}
	if coverage < 90 {
		t.Errorf("the tests cover %.1f%% of the library", coverage)
	}
}

// The tests notice what is changed in the library, and a row that does not hold.
func TestLibraryTestsCanFail(t *testing.T) {
	const tests = "decision_test.rego"
	for _, c := range []struct{ file, old, new string }{
		{tests, `"listed": {"effects": [effect("select", "app.orders")], "is": ["allow"`, `"listed": {"effects": [effect("select", "app.orders")], "is": ["hold"`},
		{tests, `"other verb": {"effects": [effect("truncate"`, `"other verb": {"effects": [effect("select"`},
		{tests, `every change in [`, `every change in [{}, `},
		{tests, `every message in [`, `every message in ["x", `},
		{tests, `malformed := {`, `malformed := {"fine": [effect("select", "app.orders")], `},
		{tests, `every path in [`, `every path in ["/now", `},
		{"judgement.rego", "\tobject.get(input.command, \"refusal\", null) == null\n", ""},
		{"judgement.rego", "null) == null\n\tinput.review.spec.subject == input.principal\n", "null) == null\n"},
		{"judgement.rego", "\tinput.connection.spec.protocol == input.command.protocol\n\tnot", "\tnot"},
		{"judgement.rego", "owner_speaks if some _ in data.access.deny\n", ""},
		{"judgement.rego", "owner_speaks if some _ in data.access.hold\n", ""},
		{"judgement.rego", "\tcount(coverage.allowed) == count(input.command.effects)\n", ""},
		{"judgement.rego", "\tnot review_holds\n", ""},
		{"judgement.rego", "\tis_array(input.command.effects)\n\tobject", "\tobject"},
		{"judgement.rego", "\tfor_this_session\n\tnot unsound", "\tnot unsound"},
		{"judgement.rego", "\tfor_this_session\n\tnot unsound", "\tfor_this_session"},
		{"judgement.rego", "\tcount(coverage.uncovered) == 0\n", ""},
		{"coverage.rego", "\tnot i in allowed\n", ""},
		{"patterns.rego", "\teffect.object in rule.on\n\tstrings.count(effect.object, \".\") == 1\n", "\teffect.object in rule.on\n"},
		{"hosts.rego", "\tnot hidden_option(before, arg)\n", ""},
		{"hosts.rego", "\tcount(words) == count(argv)\n", "\tcount(words) <= count(argv)\n"},
		{"hosts.rego", "\tnot endswith(path, \"/**\")\n", ""},
		{"hosts.rego", "\tendswith(effect.object, \"/**\")\n", ""},
		{"patterns.rego", "if count(effect.columns) > 0", "if effect.columns"},
		{"clusters.rego", "\teffect.verb in rule.verbs\n", ""},
		{"clusters.rego", "\teffect.resource in rule.resources # what tells most rules apart\n", ""},
		{"clusters.rego", "\truns(rule, effect)\n", ""},
		{"clusters.rego", "\tobject.get(rule, \"command\", null) == null\n", ""},
		{"clusters.rego", "\tplaced(rule, effect)\n\tnamed", "\tnamed"},
		{"clusters.rego", "\tnamed(rule, effect)\n}", "}"},
		{"clusters.rego", "\tobject.get(effect, \"namespace\", \"\") == \"\"\n\trule", "\trule"},
		{"clusters.rego", "\trule.cluster == true\n", ""},
		{"clusters.rego", "\tpattern == text\n", ""},
		{"clusters.rego", "\tendswith(text, after)\n", ""},
		{"clusters.rego", "\tcount(text) >= count(before) + count(after)\n", ""},
		{"clusters.rego", "place_meets(_, effect) if object.get(effect, \"namespace\", \"\") == \"\"\n", ""},
		{"clusters.rego", "name_meets(_, effect) if object.get(effect, \"name\", \"\") == \"\"\n", ""},
	} {
		t.Run(c.file+": "+c.old, func(t *testing.T) {
			tests, modules := librarySource(t), libraryModules()
			source := string(Library()[libraryPrefix+c.file])
			if c.file == "decision_test.rego" {
				source = tests
			}
			if strings.Count(source, c.old) != 1 {
				t.Fatalf("%q is in %s %d times", c.old, c.file, strings.Count(source, c.old))
			}
			source = strings.Replace(source, c.old, c.new, 1)
			if c.file == "decision_test.rego" {
				tests = source
			} else {
				modules[libraryPrefix+c.file] = ast.MustParseModule(source)
			}
			results, _ := runLibraryTests(t, modules, tests)
			if !slices.ContainsFunc(results, func(r TestResult) bool { return !r.Passed }) {
				t.Error("no test failed")
			}
		})
	}
}

func librarySource(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("library/decision_test.rego")
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// runLibraryTests also returns how much of the library the tests covered, in percent.
// A builtin's error is undefined here, as in the stock opa, where Decide denies at
// once: the library has to deny either way.
func runLibraryTests(t *testing.T, modules map[string]*ast.Module, tests string) ([]TestResult, float64) {
	t.Helper()
	library := maps.Clone(modules)
	modules = maps.Clone(modules)
	parsed, err := ast.ParseModuleWithOpts("decision_test.rego", tests, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	modules["decision_test.rego"] = parsed
	hosts, err := os.ReadFile("library/hosts_test.rego")
	if err != nil {
		t.Fatal(err)
	}
	modules["hosts_test.rego"] = ast.MustParseModule(string(hosts))
	clusters, err := os.ReadFile("library/clusters_test.rego")
	if err != nil {
		t.Fatal(err)
	}
	modules["clusters_test.rego"] = ast.MustParseModule(string(clusters))
	coverage := cover.New()
	run, err := tester.NewRunner().
		SetCompiler(ast.NewCompiler().WithEnablePrintStatements(true)).
		SetModules(modules).
		SetCoverageQueryTracer(coverage).
		CapturePrintOutput(true).
		RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var results []TestResult
	for r := range run {
		results = append(results, testResult(r))
	}
	return results, coverage.Report(library).Coverage
}

// Every file of the library is embedded, is in a package of its own below
// sallyport and is listed as a root.
func TestLibraryRoots(t *testing.T) {
	files, err := filepath.Glob("library/*.rego")
	if err != nil {
		t.Fatal(err)
	}
	roots := []string{"access"}
	for _, file := range files {
		if isTest(file) {
			continue
		}
		m := libraryModules()[libraryPrefix+filepath.Base(file)]
		if m == nil {
			t.Errorf("%s is not embedded", file)
			continue
		}
		roots = append(roots, strings.ReplaceAll(strings.TrimPrefix(m.Package.Path.String(), "data."), ".", "/"))
	}
	slices.Sort(roots)
	if got := slices.Sorted(slices.Values(Roots())); !slices.Equal(got, roots) {
		t.Errorf("Roots() is %v, the packages are %v", got, roots)
	}
	if len(Library()) != len(libraryModules()) || len(slices.Collect(maps.Keys(Library()))) != len(roots)-1 {
		t.Error("two files share a package")
	}
}

// data.sallyport.decision is what auditors evaluate, Decide asks for the same object one step earlier.
func TestDecisionPackageHasOnlyTheThreeFields(t *testing.T) {
	var names []string
	for _, rule := range libraryModules()[libraryPrefix+"decision.rego"].Rules {
		names = append(names, rule.Head.Ref().String())
		if want := "judgement.decision." + rule.Head.Ref().String(); rule.Head.Value.String() != want {
			t.Errorf("%s is %s, not %s", rule.Head.Ref(), rule.Head.Value, want)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"reason", "rule", "verdict"}) {
		t.Errorf("fields %v", names)
	}
}
