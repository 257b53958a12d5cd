package policies

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/sallyport-dev/sallyport/reviews"
)

// TestResult is one test of the owner's policies.
type TestResult struct {
	Position reviews.Position
	Name     string // test_night_shift
	Passed   bool
	Message  string // why it did not pass, and what it printed
	Duration time.Duration
}

// testTimeout bounds one owner's test.
const testTimeout = 5 * time.Second

// Test runs the tests in the _test.rego files among sources against the policy,
// sorted by file and line. Tests see data.access and data.sallyport.decision. The
// error is a reviews.Problems when a test does not compile.
func (p *Policy) Test(ctx context.Context, sources map[string][]byte) ([]TestResult, error) {
	all := map[string][]byte{}
	for file, source := range p.owner {
		all[file] = []byte(source)
	}
	for file, source := range sources {
		if isTest(file) {
			all[file] = source
		}
	}
	modules, problems := parseOwner(all)
	if len(problems) > 0 {
		return nil, problems
	}
	allowed := capabilities(testBuiltins...)
	if _, err := compileModules(modules, allowed); err != nil {
		return nil, err
	}
	modules, _ = parseOwner(all) // the compiler changed them
	for file, module := range libraryModules() {
		modules[file] = module
	}
	return runTests(ctx, modules, allowed)
}

func runTests(ctx context.Context, modules map[string]*ast.Module, allowed *ast.Capabilities) ([]TestResult, error) {
	compiler := ast.NewCompiler().WithCapabilities(allowed).WithDefaultRegoVersion(ast.RegoV1).WithEnablePrintStatements(true)
	results, err := tester.NewRunner().
		SetCompiler(compiler).
		SetModules(modules).
		SetTimeout(testTimeout).
		CapturePrintOutput(true).
		RaiseBuiltinErrors(true).
		RunTests(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("policies: run the tests: %w", err)
	}
	var list []TestResult
	for r := range results {
		list = append(list, testResult(r))
	}
	slices.SortFunc(list, func(a, b TestResult) int {
		if c := strings.Compare(a.Position.File, b.Position.File); c != 0 {
			return c
		}
		return a.Position.Line - b.Position.Line
	})
	return list, nil
}

func testResult(r *tester.Result) TestResult {
	t := TestResult{Name: r.Name, Passed: r.Pass(), Duration: r.Duration}
	if r.Location != nil {
		t.Position = reviews.Position{File: r.Location.File, Line: r.Location.Row, Column: r.Location.Col}
	}
	switch {
	case r.Error != nil:
		t.Message = r.Error.Error()
	case r.Skip:
		t.Message = "the test is marked as unfinished (todo_); finish it or remove it"
	case r.Fail:
		t.Message = "the test is not true"
	}
	if printed := bytes.TrimSpace(r.Output); len(printed) > 0 {
		t.Message = strings.TrimSpace(t.Message + "\n" + string(printed))
	}
	if r.Skip {
		t.Passed = false
	}
	return t
}
