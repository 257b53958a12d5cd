package policies

import (
	"fmt"
	"time"
)

// Command is one unit that can be decided on, as an engine understood it.
type Command struct {
	Protocol  string   `json:"protocol"`  // "postgres", "ssh", "kubernetes"
	Statement string   `json:"statement"` // what the client sent, byte for byte
	Effects   []Effect `json:"effects"`   // everything it would do; empty means it touches nothing (select 1)
	// Refusal says why the engine does not understand or never permits the
	// command. A command with a refusal is denied whatever the review says.
	Refusal *Refusal `json:"refusal,omitempty"`
}

// Refusal is a command that an engine will not run under any review.
type Refusal struct {
	Rule   string `json:"rule"`   // stable id, one runbook entry each: "unsupported_statement", "function_not_allowed" …
	Reason string `json:"reason"` // what was refused and what to write instead
}

// Effect is one thing a command does. Everything that a verb can change or
// reveal is named by exactly one object.
//
// A rule of a review covers an effect when it lists the verb and names the
// object; a rule with columns also needs the effect's columns to be known and
// listed. The verbs notify, listen and copy_file have no object: a rule that
// lists them covers them whatever else it names. Any other effect
// without an object is covered by nothing, save for the verbs of ssh, which are
// covered as library/hosts.rego says. library/coverage.rego is the definition.
type Effect struct {
	Verb    string   `json:"verb"`              // select, insert, update, delete, truncate, lock, create, alter, drop …; exec, sftp_read …
	Object  string   `json:"object,omitempty"`  // "schema.table"; a path, below which all is meant when it ends in "/**"; host:port; "" when the verb has none
	Columns []string `json:"columns,omitempty"` // columns written, or read where known; none means any
	Text    string   `json:"text,omitempty"`    // of an exec: all of the command line, byte for byte
	Argv    []string `json:"argv,omitempty"`    // program and arguments of an exec that is a plain command line; none means it is not

	// Of a Kubernetes request, whose Object is the same in words. It is covered as library/clusters.rego says.
	Resource  string `json:"resource,omitempty"`  // "pods", "pods/exec", "deployments.apps"
	Namespace string `json:"namespace,omitempty"` // "" for what has none, and for all namespaces at once
	Name      string `json:"name,omitempty"`      // "" when it may be any object
}

// Verdict is what a decision comes to. The zero value denies.
type Verdict int

const (
	Deny Verdict = iota
	Allow
	Hold
)

var verdicts = [...]string{Deny: "deny", Allow: "allow", Hold: "hold"}

// String is "deny", "allow" or "hold"; anything else is a denial too.
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdicts) {
		return verdicts[Deny]
	}
	return verdicts[v]
}

// MarshalText is String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdicts {
		if string(text) == name {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a verdict: expected allow, deny or hold", text)
}

// Decision is the answer to one command under one review. Its zero value denies.
type Decision struct {
	Verdict Verdict `json:"verdict"`
	// Rule is a stable id. "allow[0]" and "hold[1]" are elements of the review's
	// spec, so Source.Lines finds their line. "policies/hours.rego" is the
	// owner's file whose rule spoke. The others are "default" (no rule of the review
	// grants it), "no_effects", "review_mismatch", "policy_error", or a refusal's rule.
	Rule   string `json:"rule"`
	Reason string `json:"reason"` // for people; says what to do when it is a denial
}

// Input is what Rego gets as `input`: one candidate review and the time.
type Input struct {
	Now        time.Time // `input.now`, RFC 3339 in UTC; see Policy.TimeDependent
	Principal  string
	Connection *Document // reviews.Connection.JSON
	Review     *Document // reviews.Review.JSON
	Command    Command
}
