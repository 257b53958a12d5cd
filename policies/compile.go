package policies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	// DecisionTimeout is how long one decision may take before it is a denial.
	DecisionTimeout = 100 * time.Millisecond

	// MaxSource bounds one policy file in bytes.
	MaxSource = 256 << 10

	ownerPackage = "access"
	testPackage  = "access_test"
)

// Policy is the built-in library together with the owner's rules, compiled. It
// is immutable and safe for concurrent use.
type Policy struct {
	compiler      *ast.Compiler
	store         storage.Store     // empty: all that Rego sees is its input
	owner         map[string]string // the owner's files without tests
	timeDependent bool
	readsText     bool
	autoApproves  bool
	timeout       time.Duration
	evaluations   chan struct{} // a slot for each evaluation, also for one that was given up
}

// Compile compiles the library with the owner's files (path, such as
// "policies/hours.rego", to source). Test files are checked for their package and
// left out of the policy. The error is a reviews.Problems with file,
// line and column of each problem, or ctx's.
func Compile(ctx context.Context, sources map[string][]byte) (p *Policy, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("policies: the compiler failed on these policies: %v", r)
		}
	}()
	modules, problems := parseOwner(sources)
	if len(problems) > 0 {
		return nil, problems
	}
	rules := maps.Clone(modules)
	maps.DeleteFunc(rules, func(file string, _ *ast.Module) bool { return isTest(file) })
	compiler, err := compileModules(rules, capabilities())
	if err != nil {
		return nil, err
	}
	p = &Policy{
		compiler:      compiler,
		store:         inmem.New(),
		owner:         map[string]string{},
		timeDependent: readsInput(compiler.Modules, rules, "now"),
		readsText:     readsInput(compiler.Modules, rules, "command", "statement"),
		autoApproves:  approvesItself(rules),
		timeout:       DecisionTimeout,
		evaluations:   make(chan struct{}, 8*runtime.GOMAXPROCS(0)),
	}
	for file := range rules {
		p.owner[file] = string(sources[file])
	}
	return p, nil
}

// WithTimeout is the policy with another deadline than DecisionTimeout, for tools
// that nobody waits for on the wire.
func (p *Policy) WithTimeout(d time.Duration) *Policy {
	patient := *p
	patient.timeout = d
	return &patient
}

// TimeDependent reports whether an owner's rule reads input.now, or input as a
// whole. The verdict may then change by itself, so it must not be cached.
func (p *Policy) TimeDependent() bool { return p.timeDependent }

// ReadsStatement reports whether an owner's rule may read a command's text. If
// none does, commands of one principal and review with the same effects are decided alike.
func (p *Policy) ReadsStatement() bool { return p.readsText }

// compileModules compiles the library and the owner's modules, strictly.
func compileModules(owner map[string]*ast.Module, allowed *ast.Capabilities) (*ast.Compiler, error) {
	all := libraryModules()
	maps.Copy(all, owner)
	compiler := ast.NewCompiler().
		WithCapabilities(allowed).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSchemas(inputSchema()).
		WithStrict(true)
	if compiler.Compile(all); compiler.Failed() {
		return nil, problemsOf("", compiler.Errors)
	}
	return compiler, nil
}

// parseOwner parses all files and holds them to their packages.
func parseOwner(sources map[string][]byte) (map[string]*ast.Module, reviews.Problems) {
	var problems reviews.Problems
	modules := map[string]*ast.Module{}
	for _, file := range slices.Sorted(maps.Keys(sources)) {
		module, found := parseFile(file, sources[file])
		problems = append(problems, found...)
		if module != nil {
			modules[file] = module
		}
	}
	return modules, problems
}

func parseFile(file string, source []byte) (*ast.Module, reviews.Problems) {
	if !strings.HasPrefix(file, "policies/") || !strings.HasSuffix(file, ".rego") {
		return nil, problem(file, nil, "policies are files policies/<name>.rego", "move it there, or take it out")
	}
	if len(source) > MaxSource {
		return nil, problem(file, nil, fmt.Sprintf("the file is larger than %d bytes", MaxSource), "split it")
	}
	module, err := ast.ParseModuleWithOpts(file, string(source), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, problemsOf(file, err)
	}
	if module == nil {
		return nil, problem(file, nil, "the file is empty", `start it with "package access"`)
	}
	if problems := checkPackage(file, module); len(problems) > 0 {
		return nil, problems
	}
	if isTest(file) {
		return module, nil
	}
	return module, slices.Concat(checkHeads(file, module), checkReads(file, module))
}

func checkPackage(file string, m *ast.Module) reviews.Problems {
	want := ownerPackage
	if isTest(file) {
		want = testPackage
	}
	if got := strings.TrimPrefix(m.Package.Path.String(), "data."); got != want {
		return problem(file, m.Package.Loc(), fmt.Sprintf("the package is %s where only %s is allowed", got, want), fmt.Sprintf("write \"package %s\"", want))
	}
	return nil
}

// checkHeads holds deny, hold and auto_approve to sets of messages. In another form, such as a
// boolean, they would mean nothing to the library and silently not deny.
func checkHeads(file string, m *ast.Module) reviews.Problems {
	var problems reviews.Problems
	for _, rule := range m.Rules {
		ref := rule.Head.Ref()
		name := strings.TrimSuffix(ref[0].Value.String(), " ")
		if name != "deny" && name != "hold" && name != autoApproveRule {
			continue
		}
		if rule.Default || len(ref) != 1 || rule.Head.RuleKind() != ast.MultiValue {
			problems = append(problems, problem(file, rule.Loc(),
				fmt.Sprintf("%s is not written as a set of messages", name),
				fmt.Sprintf("write \"%s contains \\\"why\\\" if { … }\"", name))...)
		}
	}
	return problems
}

// checkReads keeps owners' rules to input and to their own package: what else is
// in `data` depends on who evaluates.
func checkReads(file string, m *ast.Module) reviews.Problems {
	var problems reviews.Problems
	refuse := func(loc *ast.Location) {
		problems = append(problems, problem(file, loc, "a policy reads only input and data.access", "pass what it needs in the review or the connection")...)
	}
	vis := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Package:
			return true
		case *ast.Term:
			ref, ok := x.Value.(ast.Ref)
			if ok && ref[0].Equal(ast.DefaultRootDocument) && (len(ref) < 2 || !ref[1].Equal(ast.InternedTerm(ownerPackage))) {
				refuse(x.Location)
			}
		}
		return false
	})
	vis.Walk(m)
	return problems
}

// readsInput reports whether the owner's rules may read input at a path. It looks
// at compiled modules, in which imports and aliases are resolved.
func readsInput(compiled, owner map[string]*ast.Module, path ...string) bool {
	reads := false
	for file := range owner {
		ast.WalkTerms(compiled[file], func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			reads = reads || ok && ref[0].Equal(ast.InputRootDocument) && meets(ref[1:], path)
			return reads
		})
	}
	return reads
}

// meets reports whether a reference may lead to, through or out of a path.
func meets(ref ast.Ref, path []string) bool {
	for i, want := range path {
		if i == len(ref) {
			return true // all below
		}
		if key, constant := ref[i].Value.(ast.String); constant && string(key) != want {
			return false
		}
	}
	return true
}

func problem(file string, loc *ast.Location, message, fix string) reviews.Problems {
	position := reviews.Position{File: file}
	if loc != nil {
		position.Line, position.Column = loc.Row, loc.Col
	}
	return reviews.Problems{{Position: position, Message: message, Fix: fix}}
}

// fixRego is the next step where OPA says only what is wrong.
const fixRego = "correct the rule here, then run sallyport test"

// problemsOf turns what OPA's parser and compiler report into problems.
func problemsOf(file string, err error) reviews.Problems {
	var list ast.Errors
	if !errors.As(err, &list) {
		return problem(file, nil, err.Error(), fixRego)
	}
	var problems reviews.Problems
	for _, e := range list {
		at, message := file, strings.Join(strings.Fields(e.Message), " ")
		if e.Location != nil && e.Location.File != "" {
			at = e.Location.File
		}
		fix := fixRego
		if name, ok := strings.CutPrefix(message, "undefined function "); ok {
			message = name + " does not exist or is not available to policies"
			fix = "leave it out: policies see only their input, which has the time, the review and the connection"
		}
		problems = append(problems, problem(at, e.Location, message, fix)...)
	}
	problems.Sort()
	return problems
}
