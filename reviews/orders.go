package reviews

import (
	"io/fs"
	"regexp"
	"strings"
	"time"
)

// RewindPath and ExtensionPath are where the two orders of the trust root stand:
// a rewind on the branch that was rewound, an extension in the release directory.
const (
	RewindPath    = "rewind.yaml"
	ExtensionPath = "extension.yaml"
)

// Rewind lets sync follow a branch that no longer continues what it accepted.
// Like the trust root it needs the root threshold.
type Rewind struct {
	Metadata Metadata   `yaml:"metadata" json:"metadata"`
	Spec     RewindSpec `yaml:"spec" json:"spec"`
	Source   Source     `yaml:"-" json:"-"`
}

type RewindSpec struct {
	From   string `yaml:"from" json:"from"` // the commit that sync accepted last, full id
	To     string `yaml:"to" json:"to"`     // the commit to go on from, on the branch's first-parent line
	Reason string `yaml:"reason" json:"reason"`
}

// Extension lets gateways use one release longer than it says, to bridge a forge
// that is away. Like the trust root it needs the root threshold.
type Extension struct {
	Metadata Metadata      `yaml:"metadata" json:"metadata"`
	Spec     ExtensionSpec `yaml:"spec" json:"spec"`
	Source   Source        `yaml:"-" json:"-"`
}

type ExtensionSpec struct {
	Release string    `yaml:"release" json:"release"` // digest of the release, as `gatewayd status` prints it
	Until   time.Time `yaml:"until" json:"until"`
	Reason  string    `yaml:"reason" json:"reason"`
}

var commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// ParseRewind reads rewind.yaml.
func ParseRewind(path string, b []byte) (*Rewind, error) {
	var spec RewindSpec
	c := parse(path, b, KindRewind, &spec)
	for _, f := range []struct{ path, value string }{{"spec.from", spec.From}, {"spec.to", spec.To}} {
		if !commitForm.MatchString(f.value) {
			c.at(f.path, "this is not a full commit id", "write the 40 hex digits that git rev-parse prints")
		}
	}
	c.reason(spec.Reason)
	return &Rewind{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

// ParseExtension reads extension.yaml.
func ParseExtension(path string, b []byte) (*Extension, error) {
	var spec ExtensionSpec
	c := parse(path, b, KindExtension, &spec)
	if !digestForm.MatchString(spec.Release) {
		c.at("spec.release", "this is not the digest of a release", "write the 64 hex digits that gatewayd status prints")
	}
	if spec.Until.IsZero() {
		c.missing("spec.until", `write UTC in quotes, such as "2026-11-23T00:00:00Z"`)
	}
	c.reason(spec.Reason)
	return &Extension{Metadata: c.metadata, Spec: spec, Source: c.source()}, c.err()
}

func (c *checker) reason(text string) {
	if strings.TrimSpace(text) == "" {
		c.missing("spec.reason", "write why, for whoever reads this later")
	}
}

// LoadRewind reads the rewind in fsys and demands that the root threshold
// approved it. The error is a Problems.
func LoadRewind(fsys fs.FS, root *Root, opt LoadOptions) (*Rewind, error) {
	source, err := ReadSource(fsys, RewindPath)
	if err != nil {
		return nil, err
	}
	r, err := ParseRewind(RewindPath, source.Bytes)
	if err != nil {
		return nil, err
	}
	r.Source.Signatures = source.Signatures
	return r, root.orders(KindRewind, r.Metadata, &r.Source, opt)
}

// LoadExtension reads the extension in fsys and demands that the root threshold
// approved it. The error is a Problems.
func LoadExtension(fsys fs.FS, root *Root, opt LoadOptions) (*Extension, error) {
	source, err := ReadSource(fsys, ExtensionPath)
	if err != nil {
		return nil, err
	}
	e, err := ParseExtension(ExtensionPath, source.Bytes)
	if err != nil {
		return nil, err
	}
	e.Source.Signatures = source.Signatures
	return e, root.orders(KindExtension, e.Metadata, &e.Source, opt)
}

func (r *Root) orders(kind Kind, m Metadata, source *Source, opt LoadOptions) error {
	if m.Repo != r.Metadata.Repo {
		return Problems{problemf(source.Path, "write it anew for this repository", "it belongs to repository %s, this is %s", quote(m.Repo), r.Metadata.Repo)}
	}
	return r.approves(kind, opt, source)
}
