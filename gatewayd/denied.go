package gatewayd

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Denied is the answer to an attempt or a command that is not allowed. Its
// Error alone tells the client why and what to do, because many drivers show
// nothing else.
type Denied struct {
	ID     string // "d-" and 8 hex digits; the same in the recording and the summary
	Rule   string // stable; docs/runbook.md has an entry for each
	Reason string // never a literal of the statement, never a secret
	Next   string // what to do: a command or a link
}

func (d *Denied) Error() string {
	if d.Next == "" {
		return fmt.Sprintf("%s (denial %s, rule %s)", d.Reason, d.ID, d.Rule)
	}
	return fmt.Sprintf("%s (denial %s, rule %s); %s", d.Reason, d.ID, d.Rule, d.Next)
}

// Cut is why a live session was ended. It is the cause of the session's context.
type Cut struct {
	Rule   string // review_removed, review_changed, review_expired …; docs/runbook.md has an entry for each
	Reason string
}

func (c *Cut) Error() string { return fmt.Sprintf("%s (rule %s)", c.Reason, c.Rule) }

// RequestCommand is the command that asks for access. Where the settings name a
// forge it opens the pull request as well.
func RequestCommand(settings reviews.ConfigSpec, principal, connection string) string {
	pr := ""
	if settings.Forge.Kind != "" {
		pr = " --pr"
	}
	return fmt.Sprintf("ask for access with: sallyport request %s --as %s --repo %s%s --reason \"why\"", connection, principal, settings.Repository, pr)
}

// newID returns prefix and 2*n random hex digits.
func newID(prefix string, n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, crypto/rand
	return prefix + hex.EncodeToString(b)
}
