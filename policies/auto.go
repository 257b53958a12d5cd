package policies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// autoApproveRule is the set of messages with which owners' rules approve a review by themselves:
//
//	auto_approve contains "small reads, for a week" if {
//		input.connection.spec.risk == "low"
//		every rule in input.review.spec.allow { rule.verbs == ["select"] }
//	}
const autoApproveRule = "auto_approve"

// AutoApprove asks the owner's auto_approve rules about a review. Their input is
// {"review", "connection"}, as in a decision, and nothing else: no time, so that
// the answer for the same documents never changes. It returns the messages of the rules that
// approve, sorted, none when nothing does. With an error nothing is approved.
func (p *Policy) AutoApprove(ctx context.Context, review, connection *Document) ([]string, error) {
	if !p.autoApproves {
		return nil, nil
	}
	r, err := review.term()
	if err != nil {
		return nil, fmt.Errorf("policies: auto_approve: review: %w", err)
	}
	c, err := connection.term()
	if err != nil {
		return nil, fmt.Errorf("policies: auto_approve: connection: %w", err)
	}
	answer, err := p.evaluate(ctx, autoApproveQuery, ast.NewObject(member(reviewKey, r), member(connectionKey, c)), nil)
	if err != nil {
		return nil, fmt.Errorf("policies: auto_approve: %w", err)
	}
	set, ok := answer.(ast.Set)
	if !ok {
		return nil, errors.New("policies: auto_approve is not a set of messages")
	}
	var messages []string
	for _, m := range set.Slice() {
		text, ok := m.Value.(ast.String)
		if !ok || strings.TrimSpace(string(text)) == "" {
			return nil, errors.New("policies: auto_approve gave something that is not a message")
		}
		messages = append(messages, string(text))
	}
	slices.Sort(messages)
	return messages, nil
}

var autoApproveQuery = ast.NewBody(ast.Equality.Expr(ast.MustParseTerm("data."+ownerPackage+"."+autoApproveRule), answerVar))

// approvesItself tells whether the owner has such a rule.
func approvesItself(rules map[string]*ast.Module) bool {
	for _, m := range rules {
		for _, r := range m.Rules {
			if name, ok := r.Head.Ref()[0].Value.(ast.Var); ok && name == autoApproveRule {
				return true
			}
		}
	}
	return false
}
