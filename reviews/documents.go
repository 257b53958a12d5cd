// Package reviews holds the documents of an access repo: it parses them strictly,
// signs and verifies them, counts approvals, and loads a whole tree.
//
// The invariant: what Load returns under RequireApprovals is exactly what the
// required number of distinct people signed, byte for byte, at this path of this
// repository. A document that is not is left out, which closes its name and
// nothing else.
//
// The package knows no git (see gitrepo), decides nothing about commands (see
// policies) and reads no clock: callers pass the time in.
package reviews

import (
	"slices"
	"time"
)

// APIVersion is the only schema version there is.
const APIVersion = "sallyport.dev/v1"

// Kind says what a document is. Its value is the document's `kind:`.
type Kind string

const (
	KindConfig     Kind = "Config"       // sallyport.yaml
	KindRoot       Kind = "TrustRoot"    // trust/root.yaml
	KindPrincipal  Kind = "Principal"    // principals/<name, ":" as "_">.yaml
	KindConnection Kind = "Connection"   // connections/<name>.yaml
	KindReview     Kind = "AccessReview" // reviews/<connection>/<name>.yaml
	KindCatalog    Kind = "Catalog"      // connections/<name>.catalog.json: raw JSON, signed like a document where a rule asks for it
	KindPolicy     Kind = "Policy"       // policies/<name>.rego: raw Rego, signed like a document
	KindRewind     Kind = "Rewind"       // rewind.yaml, when a branch was rewound
	KindExtension  Kind = "Extension"    // extension.yaml, beside a release
)

// Metadata binds a document to one repository and one path, so that signed
// bytes mean nothing anywhere else.
type Metadata struct {
	Repo string `yaml:"repo" json:"repo"` // uuid of the access repo
	Name string `yaml:"name" json:"name"` // equals the path: "orders-db/etl-nightly", "agent:etl"
}

// Source is what every loaded document carries beside its contents.
type Source struct {
	Path   string // slash-separated, from the root of the access repo
	Bytes  []byte // exactly the blob; this is what was signed
	SHA256 string // lower-case hex of Bytes
	// Lines maps a spec element to its line, for example "allow[0]", "hold[1]", "mask[0]".
	Lines map[string]int
	// Approvals are the distinct principals whose signatures over Bytes verified
	// and who are allowed to approve this document. Sorted.
	Approvals []string
	// Signatures are the sidecars, file name to armoured SSHSIG.
	Signatures map[string][]byte
	// Attestation is the file about its pull request that was heard, nil when
	// there is none or it does not count.
	Attestation []byte
}

// Config is sallyport.yaml.
type Config struct {
	Metadata Metadata   `yaml:"metadata" json:"metadata"`
	Spec     ConfigSpec `yaml:"spec" json:"spec"`
	Source   Source     `yaml:"-" json:"-"`
}

type ConfigSpec struct {
	// Repository is the URL or path from which requesters clone this access repo. Challenges print it.
	Repository string `yaml:"repository" json:"repository"`
	// Branch is the branch whose commits are merged reviews. Default "main".
	Branch string `yaml:"branch" json:"branch"`
	// Forge is where this repository's pull requests are reviewed. Without it only signatures approve.
	Forge Forge `yaml:"forge" json:"forge,omitzero"`
	// Approvals are the approval rules. Every rule that matches a document applies; a document that none matches is refused.
	// Catalogs are matched only by rules that name their kind, and need no approval where there is none.
	// Config and trust root are not subject to them: they need the root threshold. A principal under a delegation of the
	// trust root needs what that says instead.
	Approvals []ApprovalRule `yaml:"approvals" json:"approvals"`
	// Freshness bounds how long a release may be used without a newer one.
	Freshness Freshness `yaml:"freshness" json:"freshness"`
	// Audit says where gateways commit summaries.
	Audit Audit `yaml:"audit" json:"audit"`
	// Gateways says where each gateway of the trust root listens.
	Gateways []GatewayAddress `yaml:"gateways" json:"gateways"`
	// Policies are the files of policies/ that have to be there, for example [freeze.rego]. Listing
	// one makes its removal need the root threshold; a file that is not listed can be deleted by a merge alone.
	Policies []string `yaml:"policies" json:"policies,omitempty"`
	// MaxReviewLifetime bounds expires - notBefore of a review, for example 2160h. Default 2160h (90 days).
	MaxReviewLifetime Duration `yaml:"maxReviewLifetime" json:"maxReviewLifetime"`
}

// Forge is the service that holds the pull requests of an access repo.
type Forge struct {
	Kind       string `yaml:"kind" json:"kind"`                       // github | gitea (also Forgejo)
	URL        string `yaml:"url" json:"url,omitempty"`               // of a server of one's own: https://git.example.org
	Repository string `yaml:"repository" json:"repository,omitempty"` // owner/name
}

// ApprovalRule says who has to approve the documents that it matches.
type ApprovalRule struct {
	Match ApprovalMatch `yaml:"match" json:"match"`
	// Mode is "signature", where only SSH signatures count, or "forge", where approvals of the pull request count as well.
	Mode      string   `yaml:"mode" json:"mode"`
	Threshold int      `yaml:"threshold" json:"threshold"` // distinct principals, at least 1
	Groups    []string `yaml:"groups" json:"groups"`       // members of any of these groups count
	// OneOf are groups of which at least one member has to approve, too; who is in
	// none of Groups does not count towards Threshold.
	OneOf []string `yaml:"oneOf" json:"oneOf,omitempty"`
	// Bots lets approvals by accounts count that the forge calls bots.
	Bots bool `yaml:"bots" json:"bots,omitempty"`
	// Auto lets an auto_approve rule of the policies count as one approval.
	Auto bool `yaml:"auto" json:"auto,omitempty"`
}

// ApprovalMatch matches when every non-empty list has a matching element.
type ApprovalMatch struct {
	Kinds       []Kind   `yaml:"kinds" json:"kinds,omitempty"`
	Connections []string `yaml:"connections" json:"connections,omitempty"` // glob with "*"; of a review or a connection
	Risks       []string `yaml:"risks" json:"risks,omitempty"`             // risk of that connection, now or before the change
	Verbs       []string `yaml:"verbs" json:"verbs,omitempty"`             // that a review allows or holds
	Paths       []string `yaml:"paths" json:"paths,omitempty"`             // glob with "*", which also stands for "/"
	Unmask      bool     `yaml:"unmask" json:"unmask,omitempty"`           // reviews that unmask a column, or let rows be looked up by one
}

type Freshness struct {
	ValidFor Duration `yaml:"validFor" json:"validFor"` // default 24h, at most 720h
}

type Audit struct {
	Repository string `yaml:"repository" json:"repository"` // default: spec.repository
	Branch     string `yaml:"branch" json:"branch"`         // default "audit"
}

type GatewayAddress struct {
	Name     string `yaml:"name" json:"name"`
	Postgres string `yaml:"postgres" json:"postgres,omitempty"` // host:port; at least one of the three
	SSH      string `yaml:"ssh" json:"ssh,omitempty"`           // host:port
	// Kubernetes is host:port, too.
	Kubernetes string `yaml:"kubernetes" json:"kubernetes,omitempty"`
}

// Root is trust/root.yaml: whose keys mean what.
type Root struct {
	Metadata Metadata `yaml:"metadata" json:"metadata"`
	Spec     RootSpec `yaml:"spec" json:"spec"`
	Source   Source   `yaml:"-" json:"-"`
}

type RootSpec struct {
	Version    int                 `yaml:"version" json:"version"`     // from 1
	Threshold  int                 `yaml:"threshold" json:"threshold"` // of members of group "root"; for root and config
	Principals []RootPrincipal     `yaml:"principals" json:"principals"`
	Groups     map[string][]string `yaml:"groups" json:"groups"` // must contain "root"
	Release    []Key               `yaml:"release" json:"release"`
	Gateways   []Gateway           `yaml:"gateways" json:"gateways"`
	// Attesters are the keys with which sync says what people approved in the forge.
	Attesters []Key `yaml:"attesters" json:"attesters,omitempty"`
	// Authorities are keys that sign user certificates for ssh connections.
	Authorities []Authority `yaml:"authorities" json:"authorities,omitempty"`
	// Delegations let groups approve principals whose names begin alike.
	Delegations []Delegation `yaml:"delegations" json:"delegations,omitempty"`
	Revoked     []Revocation `yaml:"revoked" json:"revoked"`
	// Tombstones are documents that grant nothing any more, whoever signed them.
	Tombstones []Tombstone `yaml:"tombstones" json:"tombstones,omitempty"`
}

type RootPrincipal struct {
	Name string `yaml:"name" json:"name"` // user:alice
	Keys []Key  `yaml:"keys" json:"keys"`
	// Forge are its numeric user ids by kind of forge: {github: 1234567}. Logins can be renamed and taken over, these cannot.
	Forge map[string]int64 `yaml:"forge" json:"forge,omitempty"`
}

// Authority is an SSH certificate authority whose user certificates are believed
// for some principals. A certificate has to name the principal itself.
type Authority struct {
	Key       string    `yaml:"key" json:"key"`
	NotBefore time.Time `yaml:"notBefore" json:"notBefore,omitzero"`
	NotAfter  time.Time `yaml:"notAfter" json:"notAfter,omitzero"`
	// Principals are names, or beginnings with a "*" at the end: "agent:*".
	Principals []string `yaml:"principals" json:"principals"`
}

// Certifies reports whether the authority may vouch for a principal.
func (a Authority) Certifies(principal string) bool {
	return slices.ContainsFunc(a.Principals, func(pattern string) bool { return matches(pattern, principal) })
}

// Delegation gives principals whose names match a pattern to a group, which then
// approves principals/<name>.yaml in place of the approval rules.
type Delegation struct {
	Principals string `yaml:"principals" json:"principals"`         // "agent:etl-*": a prefix and one "*"
	Group      string `yaml:"group" json:"group"`                   // of the trust root
	Threshold  int    `yaml:"threshold" json:"threshold,omitempty"` // default 1
}

// Key is an SSH public key in authorized_keys form, with an optional validity window.
type Key struct {
	Key       string    `yaml:"key" json:"key"`
	NotBefore time.Time `yaml:"notBefore" json:"notBefore,omitzero"`
	NotAfter  time.Time `yaml:"notAfter" json:"notAfter,omitzero"`
}

// Gateway is a gatewayd that clients may trust: its key signs recordings and
// audit commits, and is the key of its TLS certificate unless TLS pins another.
type Gateway struct {
	Name string `yaml:"name" json:"name"`
	Key  string `yaml:"key" json:"key"`
	// TLS is "sha256:<hex>" of the SubjectPublicKeyInfo of the certificate that
	// the gateway shows when that is not made from Key. Optional.
	TLS string `yaml:"tls" json:"tls,omitempty"`
}

// Revocation takes a key, or a principal with all its keys, out of use at once, and voids what it approved.
type Revocation struct {
	Fingerprint string `yaml:"fingerprint" json:"fingerprint,omitempty"` // SHA256:…; this or Principal
	Principal   string `yaml:"principal" json:"principal,omitempty"`
	// Mode is "all" (default), which voids every approval, or "after", which
	// leaves those standing that sync first saw before At.
	Mode   string    `yaml:"mode" json:"mode,omitempty"`
	At     time.Time `yaml:"at" json:"at,omitzero"`
	Reason string    `yaml:"reason" json:"reason"`
}

// Tombstone closes a document for good by its contents.
type Tombstone struct {
	SHA256 string `yaml:"sha256" json:"sha256"` // lower-case hex of the document's bytes
	Reason string `yaml:"reason" json:"reason"`
}

// Principal is principals/<name>.yaml: one agent, program or person.
type Principal struct {
	Metadata Metadata      `yaml:"metadata" json:"metadata"`
	Spec     PrincipalSpec `yaml:"spec" json:"spec"`
	Source   Source        `yaml:"-" json:"-"`
}

type PrincipalSpec struct {
	Owner string `yaml:"owner" json:"owner"` // the person who answers for it; required unless the name starts with "user:"
	Keys  []Key  `yaml:"keys" json:"keys"`
}

// Connection is connections/<name>.yaml: one target.
type Connection struct {
	Metadata Metadata       `yaml:"metadata" json:"metadata"`
	Spec     ConnectionSpec `yaml:"spec" json:"spec"`
	Source   Source         `yaml:"-" json:"-"`
	// Catalog is the raw connections/<name>.catalog.json beside it, nil when there
	// is none, or when it lacks the approvals that a rule for catalogs asks for.
	Catalog []byte `yaml:"-" json:"-"`
	// CatalogSource is that file with its approvals when a rule is for it, otherwise the zero value.
	CatalogSource Source `yaml:"-" json:"-"`
}

type ConnectionSpec struct {
	Protocol   string           `yaml:"protocol" json:"protocol"` // "postgres", "ssh" or "kubernetes"
	Target     Target           `yaml:"target" json:"target"`
	Credential string           `yaml:"credential" json:"credential"` // "env:NAME", "file:/path" or "exec:/path arg …", read by gatewayd only
	Risk       string           `yaml:"risk" json:"risk,omitempty"`   // low | medium | high; a label for policies
	Mask       []Mask           `yaml:"mask" json:"mask,omitempty"`
	Review     ConnectionReview `yaml:"review" json:"review"`
	// Functions lists functions outside pg_catalog that statements may call, "schema.name".
	Functions []string `yaml:"functions" json:"functions,omitempty"`
	// Environment lists the variables that a client of an ssh connection may set on
	// the host, a trailing "*" stands for any ending. Default: LANG and LC_*.
	Environment []string `yaml:"environment" json:"environment,omitempty"`
	// HashFunction makes the hashes of masks the same in all sessions: a function "schema.name" of the
	// database that holds their key, made by the SQL of sallyport harden. Without it each session has a key of its own.
	HashFunction string `yaml:"hashFunction" json:"hashFunction,omitempty"`
}

type Target struct {
	Host     string `yaml:"host" json:"host"`
	Port     int    `yaml:"port" json:"port"`
	Database string `yaml:"database" json:"database,omitempty"` // postgres
	User     string `yaml:"user" json:"user"`
	TLS      string `yaml:"tls" json:"tls,omitempty"` // postgres: "verify-full" (default) or "disable", which is refused off loopback
	CA       string `yaml:"ca" json:"ca,omitempty"`   // postgres: PEM file on the gateway; default: the system's roots
	// Privileged lets masks be used although the role of a database is a superuser, may replicate or reach the
	// server's files, or owns what is masked, so that nothing but the gateway keeps it from the values.
	Privileged bool `yaml:"privileged" json:"privileged,omitempty"`
	// Impersonate lets a Kubernetes API server see each request as the principal's, a user named as it is,
	// so that the cluster's own RBAC applies as well. The gateway's credential needs the verb impersonate.
	Impersonate bool `yaml:"impersonate" json:"impersonate,omitempty"`
	// HostKeys are the public keys of an ssh host, each as a line of known_hosts
	// without the name: "ssh-ed25519 AAAA…". The host has to prove one of them.
	HostKeys []string `yaml:"hostKeys" json:"hostKeys,omitempty"`
}

type ConnectionReview struct {
	MaxAge Duration `yaml:"maxAge" json:"maxAge,omitzero"` // an approval older than this is stale; 0: no bound
}

// Mask hides one column, schema.table.column; on ssh and kubernetes connections
// what a pattern or a detector finds in output; or a field of Kubernetes objects.
type Mask struct {
	Column string `yaml:"column" json:"column,omitempty"`
	// Pattern is an RE2 expression; what it matches within a line is hidden.
	Pattern string `yaml:"pattern" json:"pattern,omitempty"`
	// Detect is a built-in detector of OutputDetectors: card, iban …
	Detect string `yaml:"detect" json:"detect,omitempty"`
	// Resource is whose field Path is: "configmaps", "deployments.apps".
	Resource string `yaml:"resource" json:"resource,omitempty"`
	// Path is a JSONPath of names: .data.password, .data["tls.key"], .spec.containers[*].env[*].value.
	Path string `yaml:"path" json:"path,omitempty"`
	// With is redact, null, email, hash, first(N), last(N), day, week, month, quarter, year, bucket(N) or json(redact PATH …);
	// for a pattern or a detector it is redact, for a path redact or null.
	With string `yaml:"with" json:"with"`
	// Lookup lets "where column = constant" find rows by the value that is not shown: whoever may,
	// learns which of the values that they guess exist. In a review, approval rules with match.unmask have to allow it.
	Lookup bool `yaml:"lookup" json:"lookup,omitempty"`
}

// How is the mask in words, without the column.
func (m Mask) How() string {
	if m.Lookup {
		return m.With + ", and rows can be looked up by the value"
	}
	return m.With
}

// Review is one AccessReview: who may do what on which connection, until when, and why.
type Review struct {
	Metadata Metadata   `yaml:"metadata" json:"metadata"`
	Spec     ReviewSpec `yaml:"spec" json:"spec"`
	Source   Source     `yaml:"-" json:"-"`
}

type ReviewSpec struct {
	Sequence   int64  `yaml:"sequence" json:"sequence"` // from 1, strictly increasing per name
	Requester  string `yaml:"requester" json:"requester"`
	Subject    string `yaml:"subject" json:"subject"`
	Connection string `yaml:"connection" json:"connection"`
	Allow      []Rule `yaml:"allow" json:"allow"`
	Hold       []Rule `yaml:"hold" json:"hold,omitempty"`
	Mask       []Mask `yaml:"mask" json:"mask,omitempty"`
	// Unmask are columns, schema.table.column, that the connection masks and this
	// review shows. Approval rules with match.unmask have to allow it.
	Unmask        []string      `yaml:"unmask" json:"unmask,omitempty"`
	Limits        Limits        `yaml:"limits" json:"limits,omitzero"`
	Validity      Validity      `yaml:"validity" json:"validity"`
	Justification Justification `yaml:"justification" json:"justification"`
	Examples      []Example     `yaml:"examples" json:"examples,omitempty"`
}

// Rule covers an effect when its verb is listed, its object matches On and,
// where Columns is given, all the columns it touches are listed.
type Rule struct {
	Verbs   []string `yaml:"verbs" json:"verbs,omitempty"`
	On      []string `yaml:"on" json:"on,omitempty"` // "schema.table", "schema.*"; never "*" alone
	Columns []string `yaml:"columns" json:"columns,omitempty"`

	// A rule on an ssh connection has exactly one of the following instead.

	// Exec is the shape of a command: its program and its arguments, each exact or
	// with one "*" for any characters but "/". A last "**" stands for any further arguments.
	Exec []string `yaml:"exec" json:"exec,omitempty"`
	// Text is a command that is not a plain one, byte for byte.
	Text string `yaml:"text" json:"text,omitempty"`
	// SFTP is one of SFTPOperations, on Path.
	SFTP string `yaml:"sftp" json:"sftp,omitempty"`
	// Path is an absolute path on the host; its last part may have one "*", or be "**" for the whole tree.
	Path string `yaml:"path" json:"path,omitempty"`
	// Shell opens a shell, in which single commands are recorded and not decided on.
	Shell bool `yaml:"shell" json:"shell,omitempty"`
	// Forward is the host:port to which a connection may be forwarded.
	Forward string `yaml:"forward" json:"forward,omitempty"`

	// A rule on a kubernetes connection has verbs and the following instead.

	// Resources are plurals with their group: "pods", "deployments.apps", "pods/exec".
	Resources []string `yaml:"resources" json:"resources,omitempty"`
	// Namespaces are names, each with at most one "*".
	Namespaces []string `yaml:"namespaces" json:"namespaces,omitempty"`
	// Cluster covers what has no namespace, and all namespaces at once.
	Cluster bool `yaml:"cluster" json:"cluster,omitempty"`
	// Names are those of objects, each with at most one "*". Lists of all are not covered then.
	Names []string `yaml:"names" json:"names,omitempty"`
	// Command is the shape of what pods/exec may run, as Exec is; ["**"] is any command.
	Command []string `yaml:"command" json:"command,omitempty"`
}

// Limits bound what a review allows. A limit that is not set is none.
type Limits struct {
	Session   Duration `yaml:"session" json:"session,omitzero"`     // how long one session may last
	Idle      Duration `yaml:"idle" json:"idle,omitzero"`           // how long one session may run nothing
	Statement Duration `yaml:"statement" json:"statement,omitzero"` // how long one command may run
	Rows      int64    `yaml:"rows" json:"rows,omitempty"`          // how many rows one session may receive
	Bytes     int64    `yaml:"bytes" json:"bytes,omitempty"`        // how many bytes of rows one session may receive
	Sessions  int64    `yaml:"sessions" json:"sessions,omitempty"`  // how many sessions may be open at once, on each gateway
	Lookups   int64    `yaml:"lookups" json:"lookups,omitempty"`    // how many values of masked columns may be looked up in an hour, on each gateway; default 100
}

type Validity struct {
	NotBefore time.Time `yaml:"notBefore" json:"notBefore"`
	Expires   time.Time `yaml:"expires" json:"expires"`
}

type Justification struct {
	Ticket string `yaml:"ticket" json:"ticket,omitempty"`
	Reason string `yaml:"reason" json:"reason"`
}

// Example is a case that a reviewer reads and CI runs.
type Example struct {
	Run    string `yaml:"run" json:"run"`
	Expect string `yaml:"expect" json:"expect"` // allow | mask | hold | deny
}
