package gitrepo

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
)

// CheckBranch refuses branch names that git would, and those that could be
// taken for an option or leave the folder of branches.
func CheckBranch(branch string) error {
	name := plumbing.NewBranchReferenceName(branch)
	bad := branch == "" || branch == "HEAD" || strings.HasPrefix(branch, "-") || strings.HasPrefix(branch, "refs/")
	if bad || name.Validate() != nil {
		return fmt.Errorf("branch %q: not a valid branch name; write it as in `git branch`, for example main", branch)
	}
	return nil
}

// authFor picks the credential for a remote. Nil leaves the choice to the
// transport: the ssh-agent for ssh, the URL's own user and password for https.
func authFor(remote string, opt Options) (transport.AuthMethod, error) {
	end, err := transport.NewEndpoint(remote)
	if err != nil {
		return nil, errors.New("not a path or URL that git knows")
	}
	switch end.Protocol {
	case "file":
		return nil, nil
	case "http", "https":
		if end.Protocol == "http" && !loopback(end.Host) {
			return nil, errors.New("what travels over plain http can be read and changed by others: use https or ssh")
		}
		if opt.Token == "" {
			return nil, nil
		}
		return &http.BasicAuth{Username: cmp.Or(opt.User, "x-access-token"), Password: opt.Token}, nil
	case "ssh":
		if opt.SSHKeyFile == "" {
			return nil, nil
		}
		user := end.User
		if user == "" {
			user = "git"
		}
		return ssh.NewPublicKeysFromFile(user, opt.SSHKeyFile, "")
	default:
		return nil, fmt.Errorf("protocol %s is not supported: use a path, https or ssh", end.Protocol)
	}
}

// loopback says whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// SameHost says whether two remotes are reached at the same place, so that a
// credential for one may be shown to the other.
func SameHost(a, b string) bool {
	x, err := transport.NewEndpoint(a)
	if err != nil {
		return false
	}
	y, err := transport.NewEndpoint(b)
	return err == nil && x.Protocol == y.Protocol && x.Host == y.Host && x.Port == y.Port
}

// Redact is a remote's address without user information, fit for logs and errors.
func Redact(remote string) string {
	u, err := url.Parse(remote)
	if err != nil || u.User == nil {
		if i := strings.LastIndex(remote, "@"); err != nil && i >= 0 && strings.Contains(remote, "://") {
			return "…" + remote[i:] // unparsable: keep only what cannot be a password
		}
		return remote
	}
	if u.Scheme == "ssh" {
		u.User = url.User(u.User.Username())
	} else {
		u.User = nil
	}
	return u.String()
}

var slug = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// GitHub is the owner and name of the repository when a remote is on
// github.com, in any of the forms that git accepts.
func GitHub(remote string) (owner, repo string, ok bool) {
	end, err := transport.NewEndpoint(remote)
	if err != nil || end.Protocol == "file" || !strings.EqualFold(end.Host, "github.com") {
		return "", "", false
	}
	parts := strings.Split(strings.Trim(end.Path, "/"), "/")
	if len(parts) != 2 {
		return "", "", false
	}
	owner, repo = parts[0], strings.TrimSuffix(parts[1], ".git")
	return owner, repo, slug.MatchString(owner) && slug.MatchString(repo)
}

// PullRequestURL is the page on which a person opens a pull request from head
// into base, "" when the remote is not on GitHub.
func PullRequestURL(remote, base, head string) string {
	owner, repo, ok := GitHub(remote)
	if !ok {
		return ""
	}
	return fmt.Sprintf("https://github.com/%s/%s/compare/%s...%s?expand=1",
		owner, repo, escapeBranch(base), escapeBranch(head))
}

// NewFileURL is the page on which a person proposes a new file with these
// contents against base, "" when the remote is not on GitHub.
func NewFileURL(remote, base, file, contents string) string {
	owner, repo, ok := GitHub(remote)
	if !ok {
		return ""
	}
	query := url.Values{"filename": {path.Base(file)}, "value": {contents}}
	page := fmt.Sprintf("https://github.com/%s/%s/new/%s", owner, repo, escapeBranch(base))
	if dir := path.Dir(file); dir != "." {
		page += "/" + escapeBranch(dir)
	}
	return page + "?" + query.Encode()
}

func escapeBranch(name string) string {
	return strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}
