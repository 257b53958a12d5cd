package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// forge is what a pull request needs of the place where the access repo lives. A
// nil func is something that this forge, or none, cannot do.
type forge struct {
	// open opens a pull request and returns its address. One that is open already
	// for the branch is returned as it is.
	open func(context.Context, pullRequest) (address string, err error)
	// protection says what the protection of the branch lacks; nothing is good.
	protection func(ctx context.Context, branch string) (lacks []string, err error)
	// checks says how CI stands on a commit, such as "CI passed"; "" when nothing is known.
	checks func(ctx context.Context, commit string) (string, error)
	// word is what the forge says of an open pull request, by its number or, with 0, by its branch; nil when there is none.
	word func(ctx context.Context, number int, branch string) (*forgeWord, error)
	// comment keeps one comment of ours on a pull request up to date. Markdown.
	comment func(ctx context.Context, number int, body string) error
}

// pullRequest is one that is to be opened.
type pullRequest struct {
	Base, Branch string
	Title, Body  string
}

// forgeOf opens the forge of an access repo.
type forgeOf func(context.Context, *accessRepo) (*forge, error)

// forgeFor is the forge of the access repo, without any funcs when there is none.
func (g *globals) forgeFor(ctx context.Context, repo *accessRepo) (*forge, error) {
	if g.forge == nil {
		return &forge{}, nil
	}
	return g.forge(ctx, repo)
}

// proposed is a branch that was made for people to review.
type proposed struct {
	Branch string `json:"branch"`
	Commit string `json:"commit"`
	Pushed bool   `json:"pushed"`
	Remote string `json:"remote,omitempty"`
	Link   string `json:"link,omitempty"`        // opens a pull request
	Pull   string `json:"pullRequest,omitempty"` // of the one that was opened
}

// propose makes a branch of one commit on top of what is merged, and pushes it
// when there is a remote. The work tree stays as it is.
func propose(ctx context.Context, repo *accessRepo, base, name, as, message string, files map[string][]byte, pushIt bool) (*proposed, error) {
	work := repo.git
	ref := "refs/heads/" + name
	for _, at := range work.refsOf(ctx, name) {
		if _, err := work.git(ctx, "rev-parse", "--verify", "--quiet", at); err == nil {
			return nil, hint(fmt.Errorf("branch %s exists already", shortRef(at)), "it may be what you want to make: sallyport review %s; else delete it", name)
		}
	}
	commit, err := work.commitOnTop(ctx, base, as, message, files)
	if err != nil {
		return nil, err
	}
	if _, err := work.git(ctx, "update-ref", "-m", "sallyport", ref, commit, strings.Repeat("0", 40)); err != nil {
		return nil, err
	}
	p := &proposed{Branch: name, Commit: commit}
	if !pushIt {
		return p, nil
	}
	return p, work.publish(ctx, repo.branch, p)
}

// publish pushes a new branch and finds the page that opens its pull request.
func (w *workTree) publish(ctx context.Context, base string, p *proposed) error {
	remote := w.remote(ctx)
	if remote == "" {
		return nil
	}
	said, err := w.push(ctx, "--set-upstream", remote, "refs/heads/"+p.Branch)
	if err != nil {
		return hint(fmt.Errorf("the request is committed on %s but was not pushed: %w", p.Branch, err), "push it with: git push -u %s %s", remote, p.Branch)
	}
	p.Pushed, p.Remote = true, remote
	// As written and as rewritten by the person's own git: either may be the forge's address.
	for _, ask := range [][]string{{"config", "--get", "remote." + remote + ".url"}, {"remote", "get-url", "--push", remote}} {
		address, err := w.git(ctx, ask...)
		if err != nil || p.Link != "" {
			continue
		}
		if p.Link = pullRequestLink(address, base, p.Branch); p.Link == "" {
			p.Link = linkIn(said, address)
		}
	}
	return nil
}

var linkForm = regexp.MustCompile(`https?://[!-~]+`)

// linkIn is the page for a new pull request that a forge tells when a branch is
// pushed. Only a page of the remote's own host is taken.
func linkIn(said, remote string) string {
	host := hostOf(remote)
	for _, line := range strings.Split(said, "\n") {
		text, fromRemote := strings.CutPrefix(line, "remote:")
		if !fromRemote {
			continue
		}
		link := linkForm.FindString(text)
		if u, err := url.Parse(link); err == nil && link != "" && host != "" && strings.EqualFold(u.Hostname(), host) {
			return link
		}
	}
	return ""
}

// hostOf is the host of a remote, in any of git's spellings; "" for a path.
func hostOf(remote string) string {
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		return u.Hostname()
	}
	address, _, scp := strings.Cut(remote, ":")
	if _, host, user := strings.Cut(address, "@"); user {
		address = host
	}
	if !scp || strings.ContainsAny(address, "/\\") {
		return ""
	}
	return address
}

// openPull opens the pull request where the forge can, and says so when it cannot.
func (g *globals) openPull(ctx context.Context, repo *accessRepo, p *proposed, title, body string, errOut io.Writer) error {
	f, err := g.forgeFor(ctx, repo)
	if err != nil {
		return err
	}
	switch {
	case !p.Pushed:
		return hint(errors.New("a pull request needs a remote to push to"), "git remote add origin URL")
	case f.open == nil:
		fmt.Fprintln(errOut, "sallyport: the pull request was not opened: the settings name no forge, or there is no token for it in SALLYPORT_FORGE_TOKEN; open it yourself")
		return nil
	}
	p.Pull, err = f.open(ctx, pullRequest{Base: repo.branch, Branch: p.Branch, Title: title, Body: body})
	if err != nil {
		return hint(fmt.Errorf("the branch %s is pushed, but its pull request was not opened: %w", p.Branch, err), "%s", openYourself(p, repo.branch))
	}
	return nil
}

// openYourself is what is left to do for a pull request.
func openYourself(p *proposed, base string) string {
	switch {
	case p.Pull != "":
		return "the pull request: " + p.Pull
	case p.Link != "":
		return "open the pull request: " + p.Link
	case p.Pushed:
		return fmt.Sprintf("open a pull request of %s into %s", p.Branch, base)
	}
	return fmt.Sprintf("push %s and open a pull request of it into %s", p.Branch, base)
}

// sidecarsOf are the paths of a document's signatures in a commit's files.
func sidecarsOf(s *snapshot, document string) map[string][]byte {
	gone := make(map[string][]byte)
	for _, path := range below(s.files, document+".sigs") {
		gone[path] = nil
	}
	return gone
}

// commitOnTop makes a commit that adds files to another one, or takes those out that
// are nil, without touching the work tree or its index. It is by the person's own identity, signed if they sign commits.
func (w *workTree) commitOnTop(ctx context.Context, parent, as, message string, files map[string][]byte) (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-index-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	in := &workTree{dir: w.dir, env: []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}}
	if _, err := in.git(ctx, "read-tree", parent); err != nil {
		return "", err
	}
	for _, path := range sortedKeys(files) {
		if files[path] == nil {
			if _, err := in.git(ctx, "update-index", "--force-remove", "--", path); err != nil {
				return "", err
			}
			continue
		}
		file := filepath.Join(dir, "blob")
		if err := os.WriteFile(file, files[path], 0o600); err != nil {
			return "", err
		}
		blob, err := in.git(ctx, "hash-object", "-w", "--no-filters", "--", file)
		if err != nil {
			return "", err
		}
		if _, err := in.git(ctx, "update-index", "--add", "--cacheinfo", "100644,"+blob+","+path); err != nil {
			return "", err
		}
	}
	tree, err := in.git(ctx, "write-tree")
	if err != nil {
		return "", err
	}
	args := append(w.identity(ctx, as), "commit-tree")
	if signs, err := w.git(ctx, "config", "--type=bool", "--get", "commit.gpgSign"); err == nil && signs == "true" {
		args = append(args, "-S")
	}
	return w.git(ctx, append(args, "-p", parent, "-m", message, tree)...)
}
