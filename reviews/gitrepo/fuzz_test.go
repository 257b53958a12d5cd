package gitrepo_test

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// However a remote is written: what goes into a log has no password, and links of GitHub lead to GitHub.
func FuzzRemote(f *testing.F) {
	f.Add("alice", "hunter2-hunter2", "git.example/acme/access.git")
	f.Add("x-access-token", "ghp_0123456789", "github.com/acme/access")
	f.Add("a", "%zz secret", "host:port/x")
	f.Add("", "p@ssword@p", "github.com:443/../x")
	f.Fuzz(func(t *testing.T, user, password, rest string) {
		if len(password) < 8 || strings.ContainsAny(password, "/?#\\") || strings.ContainsAny(user, "/?#\\") || strings.Contains(user+rest, password) {
			return
		}
		remote := "https://" + user + ":" + password + "@" + rest
		if shown := gitrepo.Redact(remote); strings.Contains(shown, password) {
			t.Fatalf("%q is shown as %q", remote, shown)
		}
		for _, link := range []string{gitrepo.PullRequestURL(remote, rest, user), gitrepo.NewFileURL(remote, rest, user, password)} {
			if link != "" && !strings.HasPrefix(link, "https://github.com/") {
				t.Fatalf("%q leads to %q", remote, link)
			}
		}
		if gitrepo.SameHost(remote, "https://elsewhere.example/x") && !strings.Contains(strings.ToLower(rest), "elsewhere.example") {
			t.Fatalf("%q is taken for elsewhere.example", remote)
		}
	})
}

// A branch that is accepted is a plain name to git.
func FuzzBranch(f *testing.F) {
	for _, name := range []string{"main", "release/2027", "--upload-pack=x", "a..b", "a.lock", "@{-1}", "refs/heads/main", "a\nb", "-", "a/", "/a", "a//b", ".a", "a~1", "a b", "HEAD"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if gitrepo.CheckBranch(name) != nil {
			return
		}
		if name == "" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "refs/") || strings.ContainsAny(name, " ~^:?*[\\\x00\n\x7f") || strings.Contains(name, "..") || strings.HasSuffix(name, ".lock") {
			t.Fatalf("%q is accepted", name)
		}
	})
}
