package ci

import "github.com/sallyport-dev/sallyport/reviews"

// Protection makes findings of what the protection of the branch of merged reviews
// lacks, for Report.Add. The caller asks the forge, where it has a token to ask with.
func Protection(branch string, lacks []string) []Finding {
	var findings []Finding
	for _, lack := range lacks {
		findings = append(findings, Finding{RuleProtection, Error, reviews.Problem{
			Position: reviews.Position{File: reviews.ConfigPath},
			Message:  "protection of branch " + branch + ": " + lack,
			Fix:      "change it in the forge's settings of the branch",
		}})
	}
	return findings
}
