package forge

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// Repo is a repository on a forge.
type Repo struct {
	Host  string // with a port when the remote has one; of ssh without
	Owner string
	Name  string
}

// String is owner/name.
func (r Repo) String() string { return r.Owner + "/" + r.Name }

var (
	scpLike  = regexp.MustCompile(`^(?:[A-Za-z0-9_.-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):([^:]+)$`)
	userinfo = regexp.MustCompile(`//[^/@]*@`)
	hostName = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\])(:[0-9]+)?$`)
	pathName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

// ParseRemote takes a git remote apart: https://host/owner/name.git, ssh://git@host/owner/name.git or git@host:owner/name.git. What
// stands before owner is left out: a forge in a folder needs Options.URL.
func ParseRemote(remote string) (Repo, error) {
	shown := userinfo.ReplaceAllString(remote, "//")
	host, path := "", ""
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		switch u.Scheme {
		case "https", "http":
			host = u.Host
		case "ssh", "git+ssh":
			host = u.Hostname()
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
		default:
			return Repo{}, fmt.Errorf("remote %s: %s is not how a forge is reached; use an https or ssh address", shown, u.Scheme)
		}
		path = u.Path
	} else if m := scpLike.FindStringSubmatch(remote); m != nil && !strings.Contains(remote, "://") {
		host, path = m[1], m[2]
	} else {
		return Repo{}, fmt.Errorf("remote %s: it is not on a forge; use an address such as https://host/owner/name.git", shown)
	}
	parts := strings.Split(strings.Trim(strings.TrimSuffix(strings.TrimRight(path, "/"), ".git"), "/"), "/")
	if len(parts) < 2 {
		return Repo{}, fmt.Errorf("remote %s: it names no owner and repository", shown)
	}
	r := Repo{Host: strings.ToLower(host), Owner: parts[len(parts)-2], Name: parts[len(parts)-1]}
	if !hostName.MatchString(r.Host) {
		return Repo{}, fmt.Errorf("remote %s: %q is no host", shown, r.Host)
	}
	for _, name := range []string{r.Owner, r.Name} {
		if !pathName.MatchString(name) || name == "." || name == ".." {
			return Repo{}, fmt.Errorf("remote %s: %q is no name of an owner or repository", shown, name)
		}
	}
	return r, nil
}

// webAddress is where people and the API find the forge. A token goes over plain http to this machine only.
func webAddress(given string, repo Repo) (*url.URL, error) {
	if given == "" {
		given = "https://" + repo.Host
	}
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("forge address %s: it is no address such as https://git.example.com", userinfo.ReplaceAllString(given, "//"))
	}
	if u.User != nil {
		return nil, errors.New("forge address: it holds a name or password; give the token apart from it")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return nil, fmt.Errorf("forge address %s: the token would travel readable by others; use https", u)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// NewPullRequestURL is the page on which a person opens a pull request from a pushed branch.
func (c *Client) NewPullRequestURL(base, branch string) string {
	link := c.web.JoinPath(c.repo.Owner, c.repo.Name, "compare").String() + "/" + escape(base) + "..." + escape(branch)
	if c.kind == GitHub {
		link += "?expand=1"
	}
	return link
}

// escape makes a branch a part of a path, its slashes kept.
func escape(branch string) string {
	return strings.ReplaceAll(url.PathEscape(branch), "%2F", "/")
}
