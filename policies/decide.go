package policies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// RulePolicyError is the rule of a denial for want of a decision.
const RulePolicyError = "policy_error"

// Decide answers one command under one review. The Decision is always usable:
// with an error it is a denial with the rule "policy_error", and the error
// says what went wrong, for logs; it names places in the policy and never values.
//
// It takes no position on the review's validity, which the caller checks.
func (p *Policy) Decide(ctx context.Context, in Input) (Decision, error) {
	if refusal := in.Command.Refusal; refusal != nil {
		return Decision{Deny, refusal.Rule, refusal.Reason}, nil
	}
	input, err := in.value()
	if err != nil {
		return undecided(fmt.Errorf("the input is unusable: %w", err))
	}
	answer, err := p.evaluate(ctx, decisionQuery, input, nil)
	if err != nil {
		return undecided(err)
	}
	d, err := decisionOf(answer)
	if err != nil {
		return undecided(err)
	}
	if kind, ok := strings.CutPrefix(d.Rule, "access."); ok {
		d.Rule = p.ownerFile(ctx, input, kind, d)
	}
	return d, nil
}

func undecided(err error) (Decision, error) {
	return Decision{
		Verdict: Deny,
		Rule:    RulePolicyError,
		Reason:  "the policies could not decide on this command; the owner of the access repo finds the cause in the gateway's log",
	}, fmt.Errorf("policies: %w", err)
}

// evaluate runs the query in a goroutine of its own, so that a builtin that does
// not stop at the deadline holds up neither the caller nor, since
// evaluations are counted, the whole process.
func (p *Policy) evaluate(ctx context.Context, query ast.Body, input ast.Value, tracer topdown.QueryTracer) (ast.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if ctx.Err() != nil { // a select would choose at random
		return nil, fmt.Errorf("the evaluation did not begin: %w", context.Cause(ctx))
	}
	select {
	case p.evaluations <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("no evaluation ended within %s", p.timeout)
	}
	type outcome struct {
		answer ast.Value
		err    error
	}
	done := make(chan outcome, 1)
	stop := topdown.NewCancel()
	go func() {
		var o outcome
		defer func() {
			if r := recover(); r != nil {
				o = outcome{err: fmt.Errorf("the evaluation panicked (%T)", r)}
			}
			<-p.evaluations
			done <- o
		}()
		growStack()
		o.answer, o.err = p.run(ctx, query, input, stop, tracer)
	}()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-ctx.Done():
		stop.Cancel()
		return nil, fmt.Errorf("the evaluation did not end within %s: %w", p.timeout, context.Cause(ctx))
	}
}

// growStack makes room at once for the deep recursion of OPA. Growing step by
// step, with ever more frames to move, took a third of a decision's time.
//
//go:noinline
func growStack() {
	var room [48 << 10]byte
	runtime.KeepAlive(&room)
}

// decisionQuery asks for the object of data.sallyport.decision in fewer steps; a
// test compares. It is in the form that the compiler would give it.
var (
	answerVar     = ast.VarTerm("answer")
	decisionQuery = ast.NewBody(ast.Equality.Expr(ast.MustParseTerm("data.sallyport.judgement.decision"), answerVar))
)

func (p *Policy) run(ctx context.Context, query ast.Body, input ast.Value, stop topdown.Cancel, tracer topdown.QueryTracer) (answer ast.Value, err error) {
	txn, err := p.store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return nil, err
	}
	defer p.store.Abort(ctx, txn)
	q := topdown.NewQuery(query).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(txn).
		WithInput(ast.NewTerm(input)).
		WithCancel(stop).
		WithStrictBuiltinErrors(true)
	if tracer != nil {
		q = q.WithQueryTracer(tracer)
	}
	answers := 0
	err = q.Iter(ctx, func(result topdown.QueryResult) error {
		answers++
		answer = result[answerVar.Value.(ast.Var)].Value
		return nil
	})
	switch {
	case err != nil:
		return nil, withoutValues(err)
	case answers != 1:
		return nil, errors.New("the decision is undefined")
	}
	return answer, nil
}

// withoutValues keeps the place and kind of an evaluation error. OPA's message may
// quote the input, so only the builtin's name survives.
func withoutValues(err error) error {
	var e *topdown.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("the evaluation failed (%T)", err)
	}
	kind := e.Code
	if e.Code == topdown.BuiltinErr {
		name, _, _ := strings.Cut(e.Message, ":")
		kind += " in " + name
	}
	if e.Location == nil {
		return errors.New(kind)
	}
	return fmt.Errorf("%s:%d:%d: %s", e.Location.File, e.Location.Row, e.Location.Col, kind)
}

func decisionOf(answer ast.Value) (Decision, error) {
	fields, ok := answer.(ast.Object)
	if !ok {
		return Decision{}, fmt.Errorf("the decision is a %s", ast.ValueName(answer))
	}
	verdict, okVerdict := textOf(fields, verdictKey)
	rule, okRule := textOf(fields, ruleKey)
	reason, okReason := textOf(fields, reasonKey)
	if !okVerdict || !okRule || !okReason || fields.Len() != 3 {
		return Decision{}, errors.New("the decision lacks its verdict, rule or reason")
	}
	d := Decision{Rule: rule, Reason: reason}
	return d, d.Verdict.UnmarshalText([]byte(verdict))
}

func textOf(object ast.Object, key *ast.Term) (string, bool) {
	value := object.Get(key)
	if value == nil {
		return "", false
	}
	text, ok := value.Value.(ast.String)
	return string(text), ok
}

// ownerFile is the file whose deny or hold rule gave the reason's first message.
// Several files may add to one set, so the evaluation is repeated with a tracer.
func (p *Policy) ownerFile(ctx context.Context, input ast.Value, kind string, d Decision) string {
	if len(p.owner) == 1 {
		for file := range p.owner {
			return file
		}
	}
	t := &messageTracer{rule: kind, files: map[string]string{}}
	if _, err := p.evaluate(ctx, decisionQuery, input, t); err != nil {
		return d.Rule
	}
	for _, message := range slices.Sorted(maps.Keys(t.files)) {
		return t.files[message]
	}
	return d.Rule
}

// messageTracer notes which file gave which message of one set.
type messageTracer struct {
	rule  string
	files map[string]string // message → file, the first by name
}

func (t *messageTracer) Enabled() bool               { return true }
func (t *messageTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (t *messageTracer) TraceEvent(event topdown.Event) {
	rule, ok := event.Node.(*ast.Rule)
	if !ok || event.Op != topdown.ExitOp || rule.Location == nil || rule.Head.Key == nil {
		return
	}
	if rule.Module.Package.Path.String() != "data."+ownerPackage || rule.Head.Ref()[0].Value.Compare(ast.Var(t.rule)) != 0 {
		return
	}
	message, ok := event.Plug(rule.Head.Key).Value.(ast.String)
	if !ok {
		return
	}
	if file, seen := t.files[string(message)]; !seen || rule.Location.File < file {
		t.files[string(message)] = rule.Location.File
	}
}

// MarshalJSON is the input as Rego sees it, for example for opa eval -i.
func (in Input) MarshalJSON() ([]byte, error) {
	value, err := in.value()
	if err != nil {
		return nil, err
	}
	v, err := ast.JSON(value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// value is the input in Rego's form. Its keys are documented on Input.
func (in Input) value() (ast.Value, error) {
	connection, err := in.Connection.term()
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	review, err := in.Review.term()
	if err != nil {
		return nil, fmt.Errorf("review: %w", err)
	}
	return ast.NewObject(
		member(nowKey, ast.StringTerm(in.Now.UTC().Format(time.RFC3339))),
		member(principalKey, ast.StringTerm(in.Principal)),
		member(connectionKey, connection),
		member(reviewKey, review),
		member(commandKey, in.Command.term()),
	), nil
}

func (c Command) term() *ast.Term {
	effects := make([]*ast.Term, len(c.Effects))
	for i, e := range c.Effects {
		effects[i] = e.term()
	}
	members := [][2]*ast.Term{
		member(protocolKey, ast.StringTerm(c.Protocol)),
		member(statementKey, ast.StringTerm(c.Statement)),
		member(effectsKey, ast.ArrayTerm(effects...)),
	}
	if c.Refusal != nil {
		members = append(members, member(refusalKey, ast.ObjectTerm(
			member(ruleKey, ast.StringTerm(c.Refusal.Rule)),
			member(reasonKey, ast.StringTerm(c.Refusal.Reason)),
		)))
	}
	return ast.ObjectTerm(members...)
}

// term leaves out what is empty, as the JSON form does.
func (e Effect) term() *ast.Term {
	members := [][2]*ast.Term{member(verbKey, ast.StringTerm(e.Verb))}
	if e.Object != "" {
		members = append(members, member(objectKey, ast.StringTerm(e.Object)))
	}
	if len(e.Columns) > 0 {
		columns := make([]*ast.Term, len(e.Columns))
		for i, column := range e.Columns {
			columns[i] = ast.StringTerm(column)
		}
		members = append(members, member(columnsKey, ast.ArrayTerm(columns...)))
	}
	if e.Text != "" {
		members = append(members, member(textKey, ast.StringTerm(e.Text)))
	}
	if len(e.Argv) > 0 {
		argv := make([]*ast.Term, len(e.Argv))
		for i, word := range e.Argv {
			argv[i] = ast.StringTerm(word)
		}
		members = append(members, member(argvKey, ast.ArrayTerm(argv...)))
	}
	for _, f := range []struct {
		key  *ast.Term
		text string
	}{{resourceKey, e.Resource}, {namespaceKey, e.Namespace}, {nameKey, e.Name}} {
		if f.text != "" {
			members = append(members, member(f.key, ast.StringTerm(f.text)))
		}
	}
	return ast.ObjectTerm(members...)
}

// The keys of the input and of the answer, made once.
var (
	nowKey        = ast.StringTerm("now")
	principalKey  = ast.StringTerm("principal")
	connectionKey = ast.StringTerm("connection")
	reviewKey     = ast.StringTerm("review")
	commandKey    = ast.StringTerm("command")
	protocolKey   = ast.StringTerm("protocol")
	statementKey  = ast.StringTerm("statement")
	effectsKey    = ast.StringTerm("effects")
	refusalKey    = ast.StringTerm("refusal")
	ruleKey       = ast.StringTerm("rule")
	reasonKey     = ast.StringTerm("reason")
	verbKey       = ast.StringTerm("verb")
	objectKey     = ast.StringTerm("object")
	columnsKey    = ast.StringTerm("columns")
	argvKey       = ast.StringTerm("argv")
	textKey       = ast.StringTerm("text")
	resourceKey   = ast.StringTerm("resource")
	namespaceKey  = ast.StringTerm("namespace")
	nameKey       = ast.StringTerm("name")
	verdictKey    = ast.StringTerm("verdict")
)

func member(key, value *ast.Term) [2]*ast.Term { return [2]*ast.Term{key, value} }
