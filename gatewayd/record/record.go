package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport-dev/sallyport/policies"
)

// Header says whose session it is and what allowed it. It is the first record of every recording.
type Header struct {
	Session       string    `json:"session"` // "s-" and 16 hex digits
	Gateway       string    `json:"gateway"`
	Protocol      string    `json:"protocol"`
	Principal     string    `json:"principal"`
	Owner         string    `json:"owner,omitempty"`
	Connection    string    `json:"connection"`
	Remote        string    `json:"remote"` // host:port of the client
	Client        string    `json:"client,omitempty"`
	Review        string    `json:"review"`
	ReviewSHA256  string    `json:"reviewSHA256"`
	ReviewCommit  string    `json:"reviewCommit"`
	Approvers     []string  `json:"approvers"`
	Release       int64     `json:"release"`
	ReleaseDigest string    `json:"releaseDigest"`
	ReleaseCommit string    `json:"releaseCommit"`
	Masks         []string  `json:"masks,omitempty"` // "app.customers.email with email"
	Started       time.Time `json:"started"`
}

// Command is one command with its decision, as it may be recorded: secret
// literals are already digested.
type Command struct {
	Statement     string            `json:"statement"`
	Parameters    []string          `json:"parameters,omitempty"` // readable form; digested where they meet a masked column
	Effects       []policies.Effect `json:"effects,omitempty"`
	Verdict       policies.Verdict  `json:"verdict"`
	Rule          string            `json:"rule"`
	Reason        string            `json:"reason,omitempty"`
	Denial        string            `json:"denial,omitempty"` // "d-" and 8 hex digits, when denied
	Release       int64             `json:"release"`          // the release that decided, which a hot reload may have changed
	ReleaseDigest string            `json:"releaseDigest"`
	ReviewSHA256  string            `json:"reviewSHA256"`
	Sent          string            `json:"sent,omitempty"` // what goes to the target when it differs from Statement, digested likewise
}

// Result ends one command.
type Result struct {
	Outcome  string `json:"outcome"` // done | failed | cancelled | cut | unknown
	Tag      string `json:"tag,omitempty"`
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"`
	SQLState string `json:"sqlstate,omitempty"`
	Message  string `json:"message,omitempty"` // as the client saw it
}

// SessionLevel is the enforcement of a session with a shell in it.
const SessionLevel = "session-level enforcement"

// What every summary says that it is.
const (
	summaryVersion = "sallyport.dev/v1"
	summaryKind    = "AuditSummary"
)

// Summary is the small audit record of a session, or of an attempt that got none, that is committed to git. It carries no literal of any statement.
type Summary struct {
	APIVersion    string           `json:"apiVersion"` // sallyport.dev/v1
	Kind          string           `json:"kind"`       // AuditSummary
	Session       string           `json:"session"`
	Gateway       string           `json:"gateway"`
	Protocol      string           `json:"protocol"`
	Principal     string           `json:"principal"` // as claimed, when the attempt was denied
	Connection    string           `json:"connection"`
	Remote        string           `json:"remote"`
	Review        string           `json:"review,omitempty"`
	ReviewSHA256  string           `json:"reviewSHA256,omitempty"`
	ReviewCommit  string           `json:"reviewCommit,omitempty"`
	Approvers     []string         `json:"approvers,omitempty"`
	Release       int64            `json:"release,omitempty"`
	ReleaseDigest string           `json:"releaseDigest,omitempty"`
	ReleaseCommit string           `json:"releaseCommit,omitempty"`
	Started       time.Time        `json:"started"`
	Ended         time.Time        `json:"ended"`
	End           string           `json:"end"` // closed | revoked | expired | drained | denied | failed …: a reason
	Commands      int64            `json:"commands"`
	Allowed       int64            `json:"allowed"`
	Denied        int64            `json:"denied"`
	Rows          int64            `json:"rows"`
	Enforcement   string           `json:"enforcement,omitempty"` // SessionLevel when a shell was open; else each command was decided on
	Counts        map[string]int64 `json:"counts,omitempty"`      // "select app.orders" → how many allowed commands had that effect
	Denials       []Denial         `json:"denials,omitempty"`
	Recording     string           `json:"recording,omitempty"` // path below the recordings folder
	Digest        string           `json:"digest,omitempty"`    // sha256 hex of the recording's last record: the chain's head
	Records       int64            `json:"records,omitempty"`
}

// Path is where the audit branch keeps the summary.
func (s Summary) Path() string {
	return "summaries/" + s.Ended.UTC().Format("2006/01/02/") + s.Session + ".json"
}

// ParseSummary reads a summary of the audit branch strictly. It has to stand at its path.
func ParseSummary(path string, b []byte) (Summary, error) {
	var s Summary
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Summary{}, fmt.Errorf("not a summary: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Summary{}, errors.New("not a summary: data after the JSON object")
	}
	if want := s.Path(); path != want {
		return Summary{}, fmt.Errorf("it is the summary of %s, whose place is %s", s.Session, want)
	}
	return s, nil
}

// Denial is one refused login or command in a summary.
type Denial struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Rule   string    `json:"rule"`
	Reason string    `json:"reason"` // names relations and verbs, never a literal
}
