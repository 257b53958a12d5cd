package forge_test

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews/forge"
)

func TestParseRemote(t *testing.T) {
	for remote, want := range map[string]forge.Repo{
		"https://github.com/acme/access.git":           {Host: "github.com", Owner: "acme", Name: "access"},
		"https://github.com/acme/access":               {Host: "github.com", Owner: "acme", Name: "access"},
		"https://GitHub.com/acme/access/":              {Host: "github.com", Owner: "acme", Name: "access"},
		"https://bot:secret@git.example.com/a/b.git":   {Host: "git.example.com", Owner: "a", Name: "b"},
		"https://git.example.com:8443/a/b.git":         {Host: "git.example.com:8443", Owner: "a", Name: "b"},
		"https://git.example.com/forge/a/b.git":        {Host: "git.example.com", Owner: "a", Name: "b"},
		"http://127.0.0.1:3000/a/b":                    {Host: "127.0.0.1:3000", Owner: "a", Name: "b"},
		"ssh://git@git.example.com:2222/a/b.git":       {Host: "git.example.com", Owner: "a", Name: "b"},
		"ssh://git@[::1]:2222/a/b.git":                 {Host: "[::1]", Owner: "a", Name: "b"},
		"git@github.com:acme/access.git":               {Host: "github.com", Owner: "acme", Name: "access"},
		"github.com:acme/access.git":                   {Host: "github.com", Owner: "acme", Name: "access"},
		"git@git.example.com:/acme/my.access_2-x.git/": {Host: "git.example.com", Owner: "acme", Name: "my.access_2-x"},
	} {
		got, err := forge.ParseRemote(remote)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", remote, got, err, want)
		}
	}
	for _, remote := range []string{
		"", "access", "/srv/git/access.git", "../access.git", "file:///srv/git/acme/access.git", "https://github.com", "https://github.com/acme",
		"https://github.com/../access", "https://github.com/acme/..", "https://github.com/acme/a%2Fb%20c", "https://github.com/acme/a b", "git@github.com:access.git",
		"ext::sh -c touch /tmp/x", "https://bot:secret@/a/b", "ftp://bot:secret@git.example.com/a/b", "https://bot:secret@git.example.com/%zz/b", "git@host:a/b?c=d", "git@host:a/b\nx",
		"-oProxyCommand=x:a/b", "-x:a/b",
	} {
		got, err := forge.ParseRemote(remote)
		if err == nil {
			t.Errorf("%q is taken for %+v", remote, got)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error holds the password: %v", remote, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := forge.Options{Kind: forge.Gitea, Remote: "git@git.example.com:a/b.git", Token: "secret-token"}
	if _, err := forge.Open(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*forge.Options){
		"no kind":              func(o *forge.Options) { o.Kind = "" },
		"gitlab":               func(o *forge.Options) { o.Kind = "gitlab" },
		"no token":             func(o *forge.Options) { o.Token = "" },
		"a token of two lines": func(o *forge.Options) { o.Token = "secret-token\nX-Evil: 1" },
		"plain http":           func(o *forge.Options) { o.URL = "http://git.example.com" },
		"plain http, by name":  func(o *forge.Options) { o.URL = "http://localhost.example.com" },
		"a password":           func(o *forge.Options) { o.URL = "https://x:secret-token@git.example.com" },
		"no host":              func(o *forge.Options) { o.URL = "git.example.com" },
		"a query":              func(o *forge.Options) { o.URL = "https://git.example.com/?a=secret-token" },
		"no remote":            func(o *forge.Options) { o.Remote = "/srv/access.git" },
	} {
		o := good
		change(&o)
		_, err := forge.Open(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if name != "a query" && strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewPullRequestURL(t *testing.T) {
	for _, c := range []struct {
		o    forge.Options
		want string
	}{
		{forge.Options{Kind: forge.Gitea, Remote: "ssh://git@git.example.com:2222/a/b.git"}, "https://git.example.com/a/b/compare/main...request/x"},
		{forge.Options{Kind: forge.Forgejo, Remote: "https://git.example.com:8443/a/b.git"}, "https://git.example.com:8443/a/b/compare/main...request/x"},
		{forge.Options{Kind: forge.Gitea, Remote: "git@git.example.com:a/b.git", URL: "https://example.com/forge/"}, "https://example.com/forge/a/b/compare/main...request/x"},
		{forge.Options{Kind: forge.GitHub, Remote: "https://github.com/a/b"}, "https://github.com/a/b/compare/main...request/x?expand=1"},
	} {
		c.o.Token = "t"
		client, err := forge.Open(c.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := client.NewPullRequestURL("main", "request/x"); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func FuzzParseRemote(f *testing.F) {
	for _, seed := range []string{"https://u:p@h/a/b.git", "git@h:a/b.git", "ssh://git@[::1]:2/a/b", "h:../..", "https://h/%2e%2e/b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, remote string) {
		r, err := forge.ParseRemote(remote)
		if err != nil {
			return
		}
		for _, name := range []string{r.Owner, r.Name} {
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\%?#@: \n") {
				t.Errorf("%q names %q", remote, name)
			}
		}
		if r.Host == "" || strings.ContainsAny(r.Host, "/@ \n") {
			t.Errorf("%q is on %q", remote, r.Host)
		}
	})
}
