package release

import (
	"encoding/json"
	"time"
)

// ReadMembers is what reads untrusted archives.
var ReadMembers = readMembers

// PolicyRoots are the roots of the policy bundle.
var PolicyRoots = policyRoots

// Manifest is the manifest that belongs to the members.
func Manifest(members map[string][]byte, roots []string) []byte {
	return canonical(manifestOf(members, roots))
}

// DecodeConnection takes the data of a connection apart.
func DecodeConnection(b []byte) (connection json.RawMessage, reviews map[string]json.RawMessage, documents map[string][]byte, err error) {
	f, err := decodeConnection(b)
	return f.connection, f.reviews, f.documents, err
}

// Patience shortens how long a mirror waits for a file.
func (m *Mirror) Patience(d time.Duration) { m.patience.poll, m.patience.bundle = d, d }
