package ci

import "github.com/sallyport-dev/sallyport/reviews"

// Weakness is one setting of a forge that is weaker than what CI relies on.
type Weakness struct {
	Setting string // what the forge calls it
	Message string // what it lets happen
	Fix     string
}

// Protection makes findings of the weaknesses of the branch of merged reviews, for
// Report.Add. The caller asks the forge, where it has a token to ask with.
func Protection(branch string, weaknesses []Weakness) []Finding {
	var findings []Finding
	for _, w := range weaknesses {
		findings = append(findings, Finding{RuleProtection, Error, reviews.Problem{
			Position: reviews.Position{File: reviews.ConfigPath},
			Message:  "branch " + branch + ": " + w.Setting + ": " + w.Message,
			Fix:      w.Fix,
		}})
	}
	return findings
}
