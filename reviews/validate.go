package reviews

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

const day = 24 * time.Hour

// maxValidFor bounds how long a frozen sync can keep grants alive.
const maxValidFor = 30 * day

// oneOf checks a word against the list of known ones.
func (c *checker) oneOf(path, what, value string, known []string) {
	if slices.Contains(known, value) {
		return
	}
	fix := strictyaml.Suggest(value, known)
	if len(known) <= 3 { // "did you mean github" is no answer to who wrote gitlab
		fix = "write " + strings.Join(known, " or ")
	}
	c.at(path, fmt.Sprintf("%s %s does not exist", what, quote(value)), fix)
}

// unique reports a value that a list already has.
func (c *checker) unique(path, what, value string, seen map[string]bool) {
	if seen[value] {
		c.at(path, fmt.Sprintf("%s %s is listed twice", what, quote(value)), "delete one of the two")
	}
	seen[value] = true
}

func (c *checker) principalName(path, name string) {
	switch {
	case name == "":
		c.missing(path, principalRule)
	case !principalForm.MatchString(name):
		c.at(path, quote(name)+" is not a principal", principalRule)
	}
}

// HasCredential tells whether the address of a repository carries a password, or a token in its place. The user of
// an ssh address is none.
func HasCredential(address string) bool {
	scheme, rest, isURL := strings.Cut(address, "://")
	if !isURL {
		return false // a path, or git's user@host:path, which takes no password
	}
	host, _, _ := strings.Cut(rest, "/")
	if u, err := url.Parse(address); err == nil {
		_, password := u.User.Password()
		return u.User != nil && (password || !strings.HasSuffix(strings.ToLower(scheme), "ssh"))
	}
	return strings.Contains(host, "@") || strings.Contains(rest, "@")
}

func (c *checker) config(s *ConfigSpec) {
	if s.Repository == "" {
		c.missing("spec.repository", "write the URL or path from which requesters clone this repository")
	}
	for path, address := range map[string]string{"spec.repository": s.Repository, "spec.audit.repository": s.Audit.Repository} {
		if HasCredential(address) && (path == "spec.repository" || address != s.Repository) {
			c.at(path, "the address holds a credential, which everybody who reads this repository, a release or a challenge would have", "write it without user and password, and revoke that credential if it was committed")
		}
	}
	c.branch("spec.branch", s.Branch)
	c.branch("spec.audit.branch", s.Audit.Branch)
	if s.Branch == s.Audit.Branch && (s.Audit.Repository == "" || s.Audit.Repository == s.Repository) {
		c.at("spec.audit.branch", "summaries cannot be committed to the branch that is reviewed", "choose another branch, such as audit")
	}
	c.forge(&s.Forge)
	if len(s.Approvals) == 0 {
		c.missing("spec.approvals", "without a rule no document can be approved; write for example - {match: {}, mode: signature, threshold: 1, groups: [reviewers]}")
	}
	for i, rule := range s.Approvals {
		c.approvalRule(fmt.Sprintf("spec.approvals[%d]", i), rule, s.Forge.Kind != "")
	}
	policies := make(map[string]bool)
	for i, name := range s.Policies {
		at := fmt.Sprintf("spec.policies[%d]", i)
		if !policyForm.MatchString(name) {
			c.at(at, quote(name)+" is not the name of a policy file", "write the name without its folder, such as freeze.rego")
		}
		c.unique(at, "policy", name, policies)
	}
	if s.Freshness.ValidFor.Std() > maxValidFor {
		c.at("spec.freshness.validFor", fmt.Sprintf("a release may be used for at most %s without a newer one", Duration(maxValidFor)), "write less: who keeps sync from the repository keeps every grant for that long")
	}
	names := make(map[string]bool)
	for i, g := range s.Gateways {
		at := fmt.Sprintf("spec.gateways[%d]", i)
		c.gatewayName(at+".name", g.Name, names)
		if g.Postgres == "" && g.SSH == "" && g.Kubernetes == "" {
			c.missing(at+".postgres", "write where clients reach this gateway, as postgres:, ssh: or kubernetes: host:port")
		}
		for _, l := range []struct{ field, address, such string }{{"postgres", g.Postgres, "gateway.example:6432"}, {"ssh", g.SSH, "gateway.example:2222"}, {"kubernetes", g.Kubernetes, "gateway.example:6443"}} {
			if host, port, err := net.SplitHostPort(l.address); (err != nil || host == "" || !isPort(port)) && (l.address != "" || c.lines.Has(at+"."+l.field)) {
				c.at(at+"."+l.field, l.field+" has to be host:port", "write where clients reach this gateway, such as "+l.such)
			}
		}
	}
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= 65535
}

func (c *checker) gatewayName(path, name string, seen map[string]bool) {
	if !gatewayForm.MatchString(name) {
		c.at(path, "gateway name "+quote(name)+" is not well-formed", connectionRule)
	}
	c.unique(path, "gateway", name, seen)
}

var branchForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$`)

func (c *checker) branch(path, name string) {
	if !branchForm.MatchString(name) || strings.HasSuffix(name, ".lock") || len(name) > 200 {
		c.at(path, "branch "+quote(name)+" is not a plain branch name", "write a name without refs/heads/, such as main")
	}
}

// approvable are the kinds that approval rules govern.
var approvable = []string{string(KindPrincipal), string(KindConnection), string(KindCatalog), string(KindReview), string(KindPolicy)}

// Forges are the kinds of forge whose approvals can count.
var Forges = []string{"github", "gitea"}

var forgeRepositoryForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

func (c *checker) forge(f *Forge) {
	if f.Kind == "" {
		if c.lines.Has("spec.forge") {
			c.missing("spec.forge.kind", "write one of "+strings.Join(Forges, ", "))
		}
		return
	}
	c.oneOf("spec.forge.kind", "forge", f.Kind, Forges)
	if !forgeRepositoryForm.MatchString(f.Repository) {
		c.at("spec.forge.repository", "repository has to be owner/name", "write it as the forge shows it, such as acme/access")
	}
	if f.URL == "" && f.Kind == "gitea" {
		c.missing("spec.forge.url", "write the address of the server, such as https://git.example.org")
	}
	if u, err := url.Parse(f.URL); f.URL != "" && (err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname()))) {
		c.at("spec.forge.url", "url is not the https address of a server", "write it without user, query and fragment, such as https://git.example.org")
	}
}

func (c *checker) approvalRule(at string, r ApprovalRule, forge bool) {
	c.approvalMatch(at+".match", r.Match)
	switch r.Mode {
	case "signature":
		if r.Bots {
			c.at(at+".bots", "bots do not sign; their approvals exist in mode forge only", "delete it, or write mode: forge")
		}
	case "forge":
		if !forge {
			c.at(at+".mode", "mode forge needs spec.forge", "write which forge holds the pull requests, or mode: signature")
		}
	case "":
		c.missing(at+".mode", "write mode: signature, or mode: forge")
	default:
		c.oneOf(at+".mode", "mode", r.Mode, []string{"signature", "forge"})
	}
	if r.Threshold < 1 {
		c.at(at+".threshold", "threshold has to be at least 1", "write how many distinct principals have to approve")
	}
	if len(r.Groups) == 0 {
		c.missing(at+".groups", "write which groups of "+RootPath+" may approve")
	}
	c.groupNames(at+".groups", r.Groups)
	c.groupNames(at+".oneOf", r.OneOf)
}

func (c *checker) groupNames(at string, groups []string) {
	seen := make(map[string]bool)
	for i, group := range groups {
		path := fmt.Sprintf("%s[%d]", at, i)
		if !groupForm.MatchString(group) {
			c.at(path, quote(group)+" is not a group name", groupRule)
		}
		c.unique(path, "group", group, seen)
	}
}

var pathGlobForm = regexp.MustCompile(`^[A-Za-z0-9_*][A-Za-z0-9_./*-]*$`)

func (c *checker) approvalMatch(at string, m ApprovalMatch) {
	for i, kind := range m.Kinds {
		path := fmt.Sprintf("%s.kinds[%d]", at, i)
		if kind == KindConfig || kind == KindRoot {
			c.at(path, fmt.Sprintf("%s always needs the threshold of %s", kind, RootPath), "delete it here")
			continue
		}
		c.oneOf(path, "kind", string(kind), approvable)
	}
	for i, pattern := range m.Connections {
		if !globForm.MatchString(pattern) {
			c.at(fmt.Sprintf("%s.connections[%d]", at, i), quote(pattern)+" is not a connection name or pattern", "write a name, or a pattern with *, such as orders-*")
		}
	}
	for i, risk := range m.Risks {
		c.oneOf(fmt.Sprintf("%s.risks[%d]", at, i), "risk", risk, Risks)
	}
	for i, verb := range m.Verbs {
		c.oneOf(fmt.Sprintf("%s.verbs[%d]", at, i), "verb", verb, slices.Compact(slices.Sorted(slices.Values(slices.Concat(PostgresVerbs, SSHVerbs, KubernetesVerbs)))))
	}
	for i, pattern := range m.Paths {
		if !pathGlobForm.MatchString(pattern) || strings.Contains(pattern, "//") || strings.Contains(pattern, "..") {
			c.at(fmt.Sprintf("%s.paths[%d]", at, i), quote(pattern)+" is not a path or pattern", "write it from the root of the access repo, such as reviews/orders-*")
		}
	}
	if c.lines.Has(at+".unmask") && !m.Unmask {
		c.at(at+".unmask", "unmask: false means nothing: a rule that does not say unmask matches every review", "delete it")
	}
}

var globForm = regexp.MustCompile(`^[a-z0-9*][a-z0-9*-]{0,62}$`)

func (c *checker) root(s *RootSpec) {
	if s.Version < 1 {
		c.at("spec.version", "version has to be at least 1", "write version: 1 and count up with every change")
	}
	keys := make(keyOwners)
	names := make(map[string]bool)
	if len(s.Principals) == 0 {
		c.missing("spec.principals", "list who approves, with their keys")
	}
	for i, p := range s.Principals {
		at := fmt.Sprintf("spec.principals[%d]", i)
		c.principalName(at+".name", p.Name)
		c.unique(at+".name", "principal", p.Name, names)
		if len(p.Keys) == 0 {
			c.missing(at+".keys", "a principal of the trust root needs a key")
		}
		c.keys(at+".keys", p.Name, p.Keys, keys)
	}
	c.forgeIDs(s.Principals)
	c.groups(s, names)
	c.delegations(s)
	if len(s.Release) == 0 {
		c.missing("spec.release", "list the keys with which sync signs releases")
	}
	c.keys("spec.release", "release", s.Release, make(keyOwners))
	c.keys("spec.attesters", "attesters", s.Attesters, maps.Clone(keys)) // a person's key never attests
	c.gateways(s.Gateways)
	c.authorities(s.Authorities)
	c.revoked(s.Revoked)
	c.tombstones(s.Tombstones)
}

// forgeIDs checks that no two principals are the same account.
func (c *checker) forgeIDs(principals []RootPrincipal) {
	owners := make(map[string]string)
	for i, p := range principals {
		for _, forge := range slices.Sorted(maps.Keys(p.Forge)) {
			at := fmt.Sprintf("spec.principals[%d].forge.%s", i, forge)
			c.oneOf(at, "forge", forge, Forges)
			id := p.Forge[forge]
			if id < 1 {
				c.at(at, "this is not a numeric user id", "write the number that the forge's API gives as the user's id")
			}
			account := fmt.Sprintf("%s/%d", forge, id)
			if other, taken := owners[account]; taken {
				c.at(at, fmt.Sprintf("this account is already that of %s", other), "write the account of this person, or delete it: an account belongs to one principal")
			}
			owners[account] = p.Name
		}
	}
}

var delegationForm = regexp.MustCompile(`^(agent|workload|program):[a-z0-9][a-z0-9.-]*\*$`)

func (c *checker) delegations(s *RootSpec) {
	for i, d := range s.Delegations {
		at := fmt.Sprintf("spec.delegations[%d]", i)
		if !delegationForm.MatchString(d.Principals) {
			c.at(at+".principals", quote(d.Principals)+" cannot be delegated", "write a kind and a prefix with * at its end, such as agent:etl-*; persons are not delegated")
		}
		for j, other := range s.Delegations[:i] {
			a, b := strings.TrimSuffix(other.Principals, "*"), strings.TrimSuffix(d.Principals, "*")
			if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
				c.at(at+".principals", fmt.Sprintf("it overlaps delegations[%d], %s", j, quote(other.Principals)), "narrow one of the two: one group answers for a name")
			}
		}
		members, there := s.Groups[d.Group]
		if !there {
			c.at(at+".group", fmt.Sprintf("group %s does not exist", quote(d.Group)), strictyaml.Suggest(d.Group, slices.Collect(maps.Keys(s.Groups))))
		} else if d.Threshold < 0 || d.Threshold > len(members) || d.Threshold == 0 && c.lines.Has(at+".threshold") {
			c.at(at+".threshold", fmt.Sprintf("threshold has to be between 1 and %d, the members of group %s", len(members), d.Group), "lower it, or add members to the group")
		}
	}
}

func (c *checker) authorities(list []Authority) {
	owners := make(keyOwners)
	for i, a := range list {
		at := fmt.Sprintf("spec.authorities[%d]", i)
		c.key(at+".key", "an authority", a.Key, owners)
		if !a.NotBefore.IsZero() && !a.NotAfter.IsZero() && !a.NotAfter.After(a.NotBefore) {
			c.at(at+".notAfter", "notAfter has to be later than notBefore", "")
		}
		if len(a.Principals) == 0 {
			c.missing(at+".principals", "write whom its certificates may name, such as [agent:etl-*]")
		}
		seen := make(map[string]bool)
		for j, p := range a.Principals {
			path := fmt.Sprintf("%s.principals[%d]", at, j)
			if !principalForm.MatchString(p) && !delegationForm.MatchString(p) {
				c.at(path, quote(p)+" is neither a principal nor a beginning of some", "write user:alice, or agent:etl-* for all that begin so")
			}
			c.unique(path, "principal", p, seen)
		}
	}
}

func (c *checker) tombstones(list []Tombstone) {
	seen := make(map[string]bool)
	for i, t := range list {
		at := fmt.Sprintf("spec.tombstones[%d]", i)
		if !digestForm.MatchString(t.SHA256) {
			c.at(at+".sha256", "this is not the sha256 of a document", "write the 64 hex digits that sha256sum prints")
		}
		c.unique(at+".sha256", "sha256", t.SHA256, seen)
		if strings.TrimSpace(t.Reason) == "" {
			c.missing(at+".reason", "write why, for whoever reads this later")
		}
	}
}

func (c *checker) groups(s *RootSpec, principals map[string]bool) {
	for name, members := range s.Groups {
		at := "spec.groups." + name
		if !groupForm.MatchString(name) {
			c.at(at, quote(name)+" is not a group name", groupRule)
		}
		seen := make(map[string]bool)
		for i, member := range members {
			path := fmt.Sprintf("%s[%d]", at, i)
			c.unique(path, "member", member, seen)
			if !principals[member] {
				c.at(path, fmt.Sprintf("%s is not among spec.principals", quote(member)), "add it there, or take it out of the group: only principals whose keys the trust root holds can approve")
			}
		}
	}
	members, there := s.Groups["root"]
	if !there {
		c.missing("spec.groups.root", "list who may approve the trust root and the config")
		return
	}
	if s.Threshold < 1 || s.Threshold > len(members) {
		c.at("spec.threshold", fmt.Sprintf("threshold has to be between 1 and %d, the members of group root", len(members)), "lower it, or add members to the group")
	}
}

func (c *checker) gateways(gateways []Gateway) {
	names, keys := make(map[string]bool), make(keyOwners)
	for i, g := range gateways {
		at := fmt.Sprintf("spec.gateways[%d]", i)
		c.gatewayName(at+".name", g.Name, names)
		c.key(at+".key", g.Name, g.Key, keys)
		if g.TLS != "" && !pinForm.MatchString(g.TLS) {
			c.at(at+".tls", "tls is not a pin", "write sha256: and the 64 lower-case hex digits of the sha256 of the certificate's SubjectPublicKeyInfo")
		}
	}
}

var (
	pinForm         = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	digestForm      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	fingerprintForm = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)
)

func (c *checker) revoked(list []Revocation) {
	seen := make(map[string]bool)
	for i, r := range list {
		at := fmt.Sprintf("spec.revoked[%d]", i)
		switch {
		case r.Fingerprint != "" && r.Principal != "":
			c.at(at+".principal", "a revocation names a fingerprint or a principal, not both", "write two revocations")
		case r.Principal != "":
			c.principalName(at+".principal", r.Principal)
			c.unique(at+".principal", "principal", r.Principal, seen)
		case !fingerprintForm.MatchString(r.Fingerprint):
			c.at(at+".fingerprint", "this is not a key's fingerprint", "write SHA256:… as ssh-keygen -lf prints it, or principal: and a name")
		default:
			c.unique(at+".fingerprint", "fingerprint", r.Fingerprint, seen)
		}
		switch r.Mode {
		case "", "all":
			if !r.At.IsZero() {
				c.at(at+".at", "mode all voids every approval, so at means nothing", "delete it, or write mode: after")
			}
		case "after":
			if r.At.IsZero() {
				c.missing(at+".at", `write from when on approvals are void, in UTC and quotes, such as "2026-11-23T00:00:00Z"`)
			}
		default:
			c.oneOf(at+".mode", "mode", r.Mode, []string{"all", "after"})
		}
		if strings.TrimSpace(r.Reason) == "" {
			c.missing(at+".reason", "write why, for whoever reads this later")
		}
	}
}

// keyOwners maps a key's digest to whose it is.
type keyOwners map[string]string

func (c *checker) keys(at, owner string, keys []Key, owners keyOwners) {
	for i, k := range keys {
		path := fmt.Sprintf("%s[%d]", at, i)
		c.key(path+".key", owner, k.Key, owners)
		if !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotAfter.After(k.NotBefore) {
			c.at(path+".notAfter", "notAfter has to be later than notBefore", "swap the two, or move notAfter")
		}
	}
}

func (c *checker) key(path, owner, text string, owners keyOwners) {
	if text == "" {
		c.missing(path, `write the line of the .pub file, such as "ssh-ed25519 AAAA… alice"`)
		return
	}
	key, err := parseKey(text)
	if err != nil {
		message, fix, _ := strings.Cut(err.Error(), "; ")
		c.at(path, message, cmp.Or(fix, "write the line of the .pub file as it is"))
		return
	}
	digest := KeyDigest(key)
	if other, taken := owners[digest]; taken {
		c.at(path, fmt.Sprintf("this key is already a key of %s", other), "delete it here, or write another key: a key belongs to one principal and is listed once")
		return
	}
	owners[digest] = owner
}

func (c *checker) principal(s *PrincipalSpec) {
	name := c.metadata.Name
	switch {
	case s.Owner == "" && !strings.HasPrefix(name, "user:"):
		c.missing("spec.owner", "write the person who answers for it, such as user:alice")
	case s.Owner != "" && !principalForm.MatchString(s.Owner):
		c.at("spec.owner", quote(s.Owner)+" is not a principal", principalRule)
	case s.Owner != "" && !strings.HasPrefix(s.Owner, "user:"):
		c.at("spec.owner", "the owner has to be a person", "write user:…")
	}
	if len(s.Keys) == 0 {
		c.missing("spec.keys", "list the line of its .pub file: without a key it cannot log in")
	}
	c.keys("spec.keys", name, s.Keys, make(keyOwners))
}

func (c *checker) connection(s *ConnectionSpec) {
	switch s.Protocol {
	case "postgres":
		c.postgres(s)
	case "ssh":
		c.ssh(s)
	case "":
		c.missing("spec.protocol", "write protocol: postgres, ssh or kubernetes")
	case "kubernetes":
		c.kubernetes(s)
	default:
		c.oneOf("spec.protocol", "protocol", s.Protocol, []string{"postgres", "ssh", "kubernetes"})
	}
	c.credential(s.Credential)
	if s.Risk != "" {
		c.oneOf("spec.risk", "risk", s.Risk, Risks)
	}
	c.masks(s.Mask)
	for i, m := range s.Mask {
		if m.Names() != "" && !m.Fits(s.Protocol) {
			c.at(fmt.Sprintf("spec.mask[%d]", i), "this mask does not fit protocol "+s.Protocol+", so it would hide nothing", maskKinds[s.Protocol])
		}
	}
}

// postgres checks what a connection to PostgreSQL has.
func (c *checker) postgres(s *ConnectionSpec) {
	c.address(&s.Target, "the database")
	c.database(&s.Target)
	c.foreign("postgres", "spec.target.hostKeys", "spec.target.impersonate", "spec.environment")
	if f := s.HashFunction; f != "" && !objectForm.MatchString(f) {
		c.at("spec.hashFunction", quote(f)+" is not a function", "write schema.name, such as sallyport.hash")
	} else if f != "" && slices.Contains(s.Functions, f) {
		c.at("spec.hashFunction", f+" is also listed under functions: statements could hash guesses with it", "take it out of functions")
	}
	seen := make(map[string]bool)
	for i, f := range s.Functions {
		at := fmt.Sprintf("spec.functions[%d]", i)
		if !objectForm.MatchString(f) {
			c.at(at, quote(f)+" is not a function", "write schema.name, such as app.order_total")
		}
		c.unique(at, "function", f, seen)
	}
}

// foreign reports fields that belong to other protocols.
func (c *checker) foreign(protocol string, fields ...string) {
	for _, f := range fields {
		if c.lines.Has(f) {
			c.at(f, "a "+protocol+" connection has no "+f[strings.LastIndex(f, ".")+1:], "delete it")
		}
	}
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// address checks what every target has that is logged in to.
func (c *checker) address(t *Target, what string) {
	c.hostAndPort(t, what)
	if t.User == "" {
		c.missing("spec.target.user", "write whom the gateway logs in as")
	}
}

func (c *checker) hostAndPort(t *Target, what string) {
	_, notIP := netip.ParseAddr(t.Host)
	switch {
	case t.Host == "":
		c.missing("spec.target.host", "write the host name of "+what)
	case notIP != nil && !hostForm.MatchString(t.Host):
		c.at("spec.target.host", "host is neither a host name nor an IP address", "write it without scheme and port")
	}
	if t.Port < 1 || t.Port > 65535 {
		c.at("spec.target.port", "port has to be between 1 and 65535", "write the port that it listens on, or leave it out for 5432, or 22 with ssh, or 6443 with kubernetes")
	}
}

func (c *checker) database(t *Target) {
	if t.Database == "" {
		c.missing("spec.target.database", "write the database to connect to")
	}
	c.tls(t)
}

// tls checks how a target proves itself.
func (c *checker) tls(t *Target) {
	switch {
	case t.TLS != "verify-full" && t.TLS != "disable":
		c.oneOf("spec.target.tls", "tls mode", t.TLS, []string{"verify-full", "disable"})
	case t.TLS == "disable" && !isLoopback(t.Host):
		c.at("spec.target.tls", "tls can be disabled on loopback only", "write tls: verify-full, with ca: when the certificate is not publicly signed")
	}
	if t.CA != "" && (!path.IsAbs(t.CA) || path.Clean(t.CA) != t.CA) {
		c.at("spec.target.ca", "ca has to be an absolute path on the gateway", "write for example /etc/sallyport/orders-db-ca.pem")
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

var envForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// credential checks the reference. Its text is never printed: people paste secrets.
func (c *checker) credential(text string) {
	const fix = "write env:NAME, file:/path or exec:/path arguments; the secret itself stays on the gateway"
	kind, rest, _ := strings.Cut(text, ":")
	ok := false
	switch kind {
	case "env":
		ok = envForm.MatchString(rest)
	case "file":
		ok = path.IsAbs(rest) && path.Clean(rest) == rest
	case "exec":
		program, _, _ := strings.Cut(rest, " ")
		ok = path.IsAbs(program) && path.Clean(program) == program
	case "":
		c.missing("spec.credential", fix)
		return
	}
	if !ok {
		c.at("spec.credential", "credential is not a reference", fix)
	}
}

func (c *checker) masks(masks []Mask) {
	seen := make(map[string]bool)
	for i, m := range masks {
		at := fmt.Sprintf("spec.mask[%d]", i)
		switch {
		case m.Resource != "" || m.Path != "":
			c.objectMask(at, m, seen)
			continue
		case m.Pattern != "" || m.Detect != "":
			c.outputMask(at, m, seen)
			continue
		}
		if m.Column == "" {
			c.missing(at+".column", "write schema.table.column; on an ssh connection pattern: or detect:")
		} else if !columnForm.MatchString(m.Column) {
			c.at(at+".column", quote(m.Column)+" is not a column", "write schema.table.column in plain identifiers; other names are not supported yet")
		}
		c.unique(at+".column", "column", m.Column, seen)
		if m.With == "" {
			c.missing(at+".with", "write one of "+strings.Join(MaskFunctions, ", "))
			continue
		}
		if !maskForm.MatchString(m.With) {
			c.at(at+".with", fmt.Sprintf("mask %s does not exist", quote(m.With)), strictyaml.Suggest(m.With, MaskFunctions))
		}
		if field := at + ".lookup"; !m.Lookup && c.lines.Has(field) {
			c.at(field, "lookup: false means nothing: without it no row is found by a masked value", "delete it")
		}
	}
}

func (c *checker) review(s *ReviewSpec) {
	if s.Sequence < 1 {
		c.at("spec.sequence", "sequence has to be at least 1", "write 1 for a new review, one more than before for a changed one")
	}
	c.principalName("spec.requester", s.Requester)
	c.principalName("spec.subject", s.Subject)
	switch connection, _, _ := strings.Cut(c.metadata.Name, "/"); {
	case s.Connection == "":
		c.missing("spec.connection", "write the connection, the part of the name before the slash")
	case s.Connection != connection:
		c.at("spec.connection", fmt.Sprintf("connection %s does not match the name %s", quote(s.Connection), quote(c.metadata.Name)), "rename one of the two")
	}
	if len(s.Allow)+len(s.Hold) == 0 {
		c.missing("spec.allow", "a review that allows nothing is not needed; delete the file instead")
	}
	for i, r := range s.Allow {
		c.rule(fmt.Sprintf("spec.allow[%d]", i), r)
	}
	for i, r := range s.Hold {
		c.rule(fmt.Sprintf("spec.hold[%d]", i), r)
	}
	c.masks(s.Mask)
	c.unmask(s)
	for name, n := range map[string]int64{"rows": s.Limits.Rows, "bytes": s.Limits.Bytes, "sessions": s.Limits.Sessions, "lookups": s.Limits.Lookups} {
		if field := "spec.limits." + name; n < 0 || n == 0 && c.lines.Has(field) {
			c.at(field, name+" has to be at least 1", "delete it when there is no limit")
		}
	}
	c.validity(s.Validity)
	if strings.TrimSpace(s.Justification.Reason) == "" {
		c.missing("spec.justification.reason", "write why this access is needed, for the people who approve it")
	}
	for i, e := range s.Examples {
		at := fmt.Sprintf("spec.examples[%d]", i)
		if strings.TrimSpace(e.Run) == "" {
			c.missing(at+".run", "write a statement")
		}
		if e.Expect == "" {
			c.missing(at+".expect", "write one of "+strings.Join(Expectations, ", "))
			continue
		}
		c.oneOf(at+".expect", "expectation", e.Expect, Expectations)
	}
}

func (c *checker) unmask(s *ReviewSpec) {
	seen := make(map[string]bool)
	for i, column := range s.Unmask {
		at := fmt.Sprintf("spec.unmask[%d]", i)
		if !columnForm.MatchString(column) {
			c.at(at, quote(column)+" is not a column", "write schema.table.column")
		}
		c.unique(at, "column", column, seen)
		if slices.ContainsFunc(s.Mask, func(m Mask) bool { return m.Column == column }) {
			c.at(at, "the review masks this column itself", "keep one of the two")
		}
	}
}

func (c *checker) validity(v Validity) {
	const fix = `write UTC in quotes, such as "2026-11-23T00:00:00Z"`
	if v.NotBefore.IsZero() {
		c.missing("spec.validity.notBefore", fix)
	}
	if v.Expires.IsZero() {
		c.missing("spec.validity.expires", fix)
	}
	if !v.NotBefore.IsZero() && !v.Expires.IsZero() && !v.Expires.After(v.NotBefore) {
		c.at("spec.validity.expires", "expires has to be later than notBefore", "swap the two, or move expires")
	}
}

func (c *checker) rule(at string, r Rule) {
	switch {
	case r.ssh():
		c.sshRule(at, r)
		return
	case r.kube():
		c.kubeRule(at, r)
		return
	}
	if len(r.Verbs) == 0 {
		c.missing(at+".verbs", "write which verbs, such as [select]; on an ssh connection exec, text, sftp, shell or forward")
	}
	seen := make(map[string]bool)
	withoutObject := len(r.Verbs) > 0
	for i, v := range r.Verbs {
		path := fmt.Sprintf("%s.verbs[%d]", at, i)
		c.oneOf(path, "verb", v, PostgresVerbs)
		c.unique(path, "verb", v, seen)
		withoutObject = withoutObject && slices.Contains(verbsWithoutObject, v)
	}
	if len(r.On) == 0 && !withoutObject {
		c.missing(at+".on", "write which relations, such as [app.orders] or [app.*]")
	}
	seen = make(map[string]bool)
	for i, on := range r.On {
		path := fmt.Sprintf("%s.on[%d]", at, i)
		c.relation(path, on)
		c.unique(path, "relation", on, seen)
	}
	c.columns(at, r)
}

func (c *checker) relation(path, on string) {
	switch {
	case on == "*" || on == "*.*":
		c.at(path, "a rule on everything is not allowed", "name the schemas, such as app.*")
	case !relationForm.MatchString(on):
		c.at(path, quote(on)+" is not a relation", "write schema.table or schema.* in plain identifiers; other patterns are not supported yet")
	}
}

func (c *checker) columns(at string, r Rule) {
	if c.lines.Has(at+".columns") && len(r.Columns) == 0 {
		c.at(at+".columns", "columns is empty", "list columns, or delete it to cover all of them")
	}
	seen := make(map[string]bool)
	for i, column := range r.Columns {
		path := fmt.Sprintf("%s.columns[%d]", at, i)
		if !nameForm.MatchString(column) {
			c.at(path, quote(column)+" is not a column name", "write the name alone, without its table")
		}
		c.unique(path, "column", column, seen)
	}
	for i, v := range r.Verbs {
		if len(r.Columns) > 0 && slices.Contains(PostgresVerbs, v) && !slices.Contains(verbsWithColumns, v) {
			c.at(fmt.Sprintf("%s.verbs[%d]", at, i), fmt.Sprintf("%s acts on whole rows or relations, so columns cannot bound it", v), "put it into a rule of its own, without columns")
		}
	}
}
