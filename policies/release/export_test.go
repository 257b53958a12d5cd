package release

// ReadMembers is what reads untrusted archives.
var ReadMembers = readMembers

// PolicyRoots are the roots of the policy bundle.
var PolicyRoots = policyRoots

// Manifest is the manifest that belongs to the members.
func Manifest(members map[string][]byte, roots []string) []byte {
	return canonical(manifestOf(members, roots))
}
