package ci

import (
	"cmp"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Severity says what a finding means for the change.
type Severity string

const (
	Error   Severity = "error"   // it must not be merged
	Warning Severity = "warning" // it may be, once somebody has read this
	Note    Severity = "note"    // it changes nothing
)

// The rules that findings name. Each id is stable: dashboards and baselines keep it.
const (
	RuleDocument      = "document"          // form and meaning of a document
	RuleApproval      = "approval"          // approvals that are missing
	RuleSignature     = "signature"         // files that do not count: signatures of other bytes, orphans
	RulePolicy        = "policy"            // policies that do not compile
	RuleMask          = "mask"              // masks that the catalog cannot carry
	RuleCatalog       = "catalog"           // catalogs that are missing
	RuleExample       = "example"           // an example of a review does not hold
	RulePolicyTest    = "policy_test"       // a test of the policies fails
	RuleGolden        = "golden"            // a new policy changes what was tested before
	RuleExpired       = "expired"           // a review whose time is over
	RuleSequence      = "sequence"          // a sequence that is not higher than all before it
	RuleOlder         = "older_version"     // a version without a sequence that was replaced before
	RuleMixed         = "mixed"             // rules changed together with what they judge
	RuleMaskRemoved   = "mask_removed"      // a column that would be shown in the clear
	RuleCloses        = "closes"            // what the change closes elsewhere
	RulePolicyRemoved = "policy_removed"    // a policy that goes without anybody's word
	RuleTrust         = "trust"             // a trust root that does not follow the merged one
	RuleConflict      = "conflict"          // changed on the base as well
	RuleBase          = "base"              // the base itself cannot be judged by
	RuleProtection    = "branch_protection" // settings of the forge that CI relies on
)

// rules describes each of them in one line, for SARIF and for readers.
var rules = map[string]string{
	RuleDocument:      "A document is well-formed and means something.",
	RuleApproval:      "A document has the approvals that the merged rules ask for.",
	RuleSignature:     "Files beside documents count for something.",
	RulePolicy:        "Policies compile under the capabilities that a gateway grants them.",
	RuleMask:          "Every mask can be computed on the column it names.",
	RuleCatalog:       "A connection has a catalog, so that examples can run.",
	RuleExample:       "Examples of a review come out as the review says.",
	RulePolicyTest:    "The tests of the policies pass.",
	RuleGolden:        "A new policy keeps what tests and examples held before.",
	RuleExpired:       "A review that is proposed has not expired.",
	RuleSequence:      "A changed review has a sequence that its name never had.",
	RuleMixed:         "Trust, settings and policies change in a pull request of their own.",
	RuleMaskRemoved:   "A column that was masked stays masked, unless somebody read this.",
	RuleCloses:        "A change closes no document that it does not touch.",
	RulePolicyRemoved: "A policy goes only when the signed list of policies says so.",
	RuleTrust:         "A trust root follows the merged one, by its version and its signers.",
	RuleConflict:      "A document is not changed on the base and on the branch at once.",
	RuleBase:          "The base can be judged by.",
	RuleProtection:    "The branch protection is as strong as CI assumes.",
}

// Finding is one thing that was found, where, and what to do about it.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	reviews.Problem
}

// String is "file:line:column: message; fix [rule]".
func (f Finding) String() string { return f.Problem.Error() + " [" + f.Rule + "]" }

// Outcome is one example of a review, or one test of the policies.
type Outcome struct {
	reviews.Position
	Run      string `json:"run"`
	Expect   string `json:"expect"`
	Got      string `json:"got"`
	Passed   bool   `json:"passed"`
	Policies string `json:"policies,omitempty"` // "base" or "head", when both were asked
	Message  string `json:"message,omitempty"`  // why it did not pass
}

// Report is the result of Check, Compare or Test.
type Report struct {
	OK       bool              `json:"ok"`             // no finding is an error
	Base     string            `json:"base,omitempty"` // what the caller calls the two sides
	Head     string            `json:"head,omitempty"`
	Checked  int               `json:"checked"` // documents that could be used, trust root and settings included
	Findings []Finding         `json:"findings"`
	Changes  []Effect          `json:"changes,omitempty"` // what a change does, document by document
	Pending  []reviews.Pending `json:"pending"`           // what still lacks approvals
	// Automatic are the changed reviews that an auto_approve rule of the base approves.
	Automatic []string  `json:"automatic,omitempty"`
	Passed    int       `json:"passed"` // examples and tests
	Failed    int       `json:"failed"`
	Outcomes  []Outcome `json:"outcomes,omitempty"`
}

// Count is how many findings have that severity.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Add appends findings of the caller, such as those of Protection.
func (r *Report) Add(findings ...Finding) {
	r.Findings = append(r.Findings, findings...)
	r.finish()
}

// problems makes findings. Each has a place and a next step, also where whoever
// found the problem thought that its message says it.
func (r *Report) problems(rule string, severity Severity, ps ...reviews.Problem) {
	for _, p := range ps {
		if p.File == "" {
			p.File = reviews.RootPath
		}
		if p.Fix == "" {
			p.Fix = "correct it, or take the change of this file back"
		}
		r.Findings = append(r.Findings, Finding{rule, severity, p})
	}
}

func (r *Report) outcome(o Outcome) {
	r.Outcomes = append(r.Outcomes, o)
	if o.Passed {
		r.Passed++
	} else {
		r.Failed++
	}
}

// finish sorts, drops what was found twice, and draws the conclusion.
func (r *Report) finish() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Rule, b.Rule), strings.Compare(a.Message, b.Message),
		)
	})
	r.Findings = slices.Compact(r.Findings)
	if r.Findings == nil {
		r.Findings = []Finding{} // [] in JSON
	}
	slices.SortStableFunc(r.Pending, func(a, b reviews.Pending) int { return strings.Compare(a.Path, b.Path) })
	if r.Pending == nil {
		r.Pending = []reviews.Pending{}
	}
	r.OK = r.Count(Error) == 0
}

// at makes a problem at an element of a document's spec.
func at(source reviews.Source, element, message, fix string) reviews.Problem {
	return reviews.Problem{Position: reviews.Position{File: source.Path, Line: source.Lines[element]}, Message: message, Fix: fix}
}

// whole makes a problem with a whole file.
func whole(file, message, fix string) reviews.Problem {
	return reviews.Problem{Position: reviews.Position{File: file}, Message: message, Fix: fix}
}

func asProblems(err error) reviews.Problems {
	var problems reviews.Problems
	if err == nil || errors.As(err, &problems) {
		return problems
	}
	return reviews.Problems{{Message: err.Error()}}
}

// documentOf is the document that a path belongs to: itself or, for a signature
// and its folder, what was signed; for a catalog and its signatures, the connection.
func documentOf(name string) string {
	if before, after, found := strings.Cut(name, ".sigs"); found && (after == "" || after[0] == '/') {
		name = before
	}
	if connection, is := strings.CutSuffix(name, ".catalog.json"); is && path.Dir(name) == "connections" {
		return connection + ".yaml"
	}
	return name
}

// judges reports whether a path belongs to trust, settings or policies.
func judges(name string) bool {
	top, _, _ := strings.Cut(documentOf(name), "/")
	return top == reviews.ConfigPath || top == "trust" || top == "policies"
}
