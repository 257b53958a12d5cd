package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
)

//go:embed template
var templateFiles embed.FS

// person is a principal of the trust root.
type person struct {
	Name, Key string
	Account   int64 // on the forge, 0 when not told
}

// sample is what the files of a new access repo are made from.
type sample struct {
	Repo, Repository, Branch    string
	Owner                       string // who ran init
	People                      []person
	Lab                         string // the lab's reviewer; "" without --lab
	Gateway, Listen             string
	GatewayKey, ReleaseKey      string
	Connection, Credential      string
	Host, Database, User, TLS   string
	Port                        int
	Agent, AgentOwner, AgentKey string // AgentOwner is "" when nobody could approve it
	Version, GitHubOwner        string
	Forges                      []string // whose workflows are written
	Approvals                   string   // mode of the rule for reviews: signature or forge
	Auto                        bool     // an auto_approve rule counts, and CI merges
	Forge                       *reviews.Forge
	AttesterKey                 string // "" unless approvals of pull requests count
}

// newFile is a file of a new access repo.
type newFile struct {
	Path  string       `json:"path"`
	Kind  reviews.Kind `json:"kind,omitempty"` // "" when it is not signed
	Bytes []byte       `json:"-"`
	Text  string       `json:"text"`
	keep  bool         // an existing one stays
}

// files renders them in the order in which people should read them.
func (s *sample) files() ([]newFile, error) {
	list := []struct {
		path, template string
		keep, leaveOut bool
	}{
		{path: reviews.ConfigPath, template: "sallyport.yaml"},
		{path: reviews.RootPath, template: "root.yaml"},
		{path: "trust/LAB.md", template: "LAB.md", leaveOut: s.Lab == ""},
		{path: reviews.PathOf(reviews.KindPrincipal, s.Agent), template: "principal.yaml", leaveOut: s.AgentOwner == ""},
		{path: reviews.PathOf(reviews.KindConnection, s.Connection), template: "connection.yaml"},
		{path: "policies/guardrails.rego", template: "guardrails.rego"},
		{path: "policies/guardrails_test.rego", template: "guardrails_test.rego"},
		{path: ".github/workflows/sallyport.yml", template: "github.yml", leaveOut: !s.on("github")},
		{path: ".gitea/workflows/sallyport.yml", template: "gitea.yml", leaveOut: !s.on("gitea")},
		{path: ".gitlab-ci.yml", template: "gitlab.yml", keep: true, leaveOut: !s.on("gitlab")},
		{path: ".gitattributes", template: "gitattributes"},
		{path: "CODEOWNERS", template: "CODEOWNERS", keep: true},
		{path: "README.md", template: "README.md", keep: true},
	}
	var files []newFile
	for _, f := range list {
		if f.leaveOut {
			continue
		}
		b, err := s.render(f.template)
		if err != nil {
			return nil, err
		}
		kind := reviews.KindOf(f.path)
		if ci.Schema(kind) != nil {
			b = append([]byte(ci.EditorLine(kind, f.path)+"\n"), b...)
		}
		files = append(files, newFile{Path: f.path, Kind: kind, Bytes: b, Text: string(b), keep: f.keep})
	}
	for _, kind := range ci.SchemaKinds {
		b := ci.Schema(kind)
		files = append(files, newFile{Path: ci.SchemaPath(kind), Bytes: b, Text: string(b)})
	}
	return files, nil
}

// forges are those whose workflows init can write.
var forges = []string{"github", "gitea", "gitlab"}

// forgesOf are the forges that a repository's address speaks of, or all.
func forgesOf(repository string) []string {
	if _, ok := githubPath(repository); ok {
		return []string{"github"}
	}
	for _, known := range []struct{ word, forge string }{{"gitlab", "gitlab"}, {"gitea", "gitea"}, {"forgejo", "gitea"}, {"codeberg", "gitea"}} {
		if strings.Contains(repository, known.word) {
			return []string{known.forge}
		}
	}
	return forges
}

// forgeNamed is the forge that a repository's address speaks of: what an https or ssh
// address has before owner and name is where its people and its API are.
func forgeNamed(repository string, workflows []string) (*reviews.Forge, error) {
	repo, err := onForge.ParseRemote(repository)
	if err != nil {
		return nil, usage("--approvals forge and --auto-approve need --repository, the address on the forge: %v", err)
	}
	if _, ok := githubPath(repository); ok {
		return &reviews.Forge{Kind: "github", Repository: repo.String()}, nil
	}
	f := &reviews.Forge{URL: "https://" + repo.Host, Repository: repo.String()}
	if u, err := url.Parse(repository); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		before, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git")+"\n", "/"+repo.String()+"\n")
		f.URL = u.Scheme + "://" + u.Host + before
	}
	switch {
	case slices.Equal(workflows, []string{"github"}):
		f.Kind = "github"
	case slices.Equal(workflows, []string{"gitea"}):
		f.Kind = "gitea"
	default:
		return nil, usage("--approvals forge and --auto-approve need to know what %s is: write --forge github or --forge gitea (also for Forgejo)", repo.Host)
	}
	return f, nil
}

func (s *sample) on(forge string) bool { return slices.Contains(s.Forges, forge) }

func (s *sample) render(name string) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"q": scalar}).ParseFS(templateFiles, "template/"+name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out.Bytes(), nil
}

// plainScalar is text that YAML reads as itself without quotes, in flow and block style.
var plainScalar = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`)

// scalar writes any text as one YAML scalar.
func scalar(text string) string {
	switch text {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
	default:
		if plainScalar.MatchString(text) {
			return text
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out) // a JSON string is a YAML string
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string always encodes
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}
