package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
	"github.com/sallyport-dev/sallyport/reviews/gitrepo"
)

// forgeTokens are the environment variables with a token for the forge, the
// project's own first.
var forgeTokens = map[string][]string{
	"github": {"SALLYPORT_FORGE_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"},
	"gitea":  {"SALLYPORT_FORGE_TOKEN", "GITEA_TOKEN"},
}

// actionsAccount is the account of GitHub Actions' own tokens, which may not ask who they are.
const actionsAccount = 41898282

// configuredForge opens the forge that the merged config names, with a token from
// the environment. Without either it can do nothing, and says nothing.
func configuredForge(ctx context.Context, repo *accessRepo) (*forge, error) {
	client, config, err := forgeClient(ctx, repo)
	if client == nil || err != nil {
		return &forge{}, err
	}
	return &forge{
		open: func(ctx context.Context, p pullRequest) (string, error) {
			opened, err := client.Open(ctx, onForge.New{Base: p.Base, Branch: p.Branch, Title: p.Title, Body: p.Body})
			if err != nil {
				return "", err
			}
			return opened.URL, nil
		},
		protection: func(ctx context.Context, branch string) ([]string, error) {
			p, err := client.Protection(ctx, branch)
			if err != nil {
				return nil, err
			}
			lacks := p.Weaknesses(approvalsInForge(config))
			if len(p.Checks) == 0 && len(p.Unseen) == 0 {
				lacks = append(lacks, "no status has to be good before a merge into "+branch+": require that of the job that runs `sallyport check`")
			}
			return lacks, nil
		},
		checks: func(ctx context.Context, commit string) (string, error) {
			standing, err := client.Standing(ctx, commit)
			return oneLine(standing.String()), err
		},
		word: func(ctx context.Context, number int, branch string) (*forgeWord, error) {
			return askWord(ctx, repo, client, config.Spec.Forge.Kind, number, branch)
		},
		comment: func(ctx context.Context, number int, body string) error {
			return client.Comment(ctx, number, "review", body)
		},
	}, nil
}

// forgeClient is nil when no forge is configured or there is no token for it.
func forgeClient(ctx context.Context, repo *accessRepo) (*onForge.Client, *reviews.Config, error) {
	config, err := repo.mergedConfig(ctx)
	if err != nil || config == nil {
		return nil, nil, err
	}
	client, err := clientOf(ctx, repo, config)
	return client, config, err
}

// clientOf is the forge that settings name, nil without one or without a token for it.
func clientOf(ctx context.Context, repo *accessRepo, config *reviews.Config) (*onForge.Client, error) {
	f := config.Spec.Forge
	token := forgeToken(f.Kind)
	if f.Kind == "" || token == "" {
		return nil, nil
	}
	account := int64(0)
	if os.Getenv("GITHUB_ACTIONS") == "true" && token == os.Getenv("GITHUB_TOKEN") {
		account = actionsAccount
	}
	address := strings.TrimSuffix(f.URL, "/")
	if address == "" {
		address = "https://github.com"
	}
	// What is merged here is whatever this clone has; in a pull request's job that may be the
	// change itself. The token goes only where the clone came from.
	if remote := repo.remoteAddress(ctx); !samePlace(address, remote) {
		return nil, hint(fmt.Errorf("spec.forge is at %s, and this clone's remote is %q: no token is sent there", address, gitrepo.Redact(remote)), "clone from where the pull requests are, or unset the token's variable")
	}
	return onForge.Open(onForge.Options{Kind: onForge.Kind(f.Kind), Remote: address + "/" + f.Repository + ".git", URL: address, Token: onForge.Token(token), Account: account})
}

// remoteAddress is where the access repo was cloned from, "" when that is nowhere.
func (r *accessRepo) remoteAddress(ctx context.Context) string {
	if r.remote != "" {
		return r.remote
	}
	name := r.git.remote(ctx)
	if name == "" {
		return ""
	}
	remote, err := r.git.git(ctx, "remote", "get-url", name)
	if err != nil {
		return ""
	}
	return remote
}

// samePlace says whether a forge's address is the host of a remote, and its port
// where the remote is reached by http as well.
func samePlace(address, remote string) bool {
	forge, err := url.Parse(address)
	if err != nil || forge.Host == "" {
		return false
	}
	if u, err := url.Parse(remote); err == nil && strings.HasPrefix(u.Scheme, "http") {
		return u.Scheme == forge.Scheme && strings.EqualFold(u.Host, forge.Host)
	}
	return strings.EqualFold(hostOf(remote), forge.Hostname())
}

// approvalsInForge is how many approvals a merge has to need, so that no document
// is merged that its rules will not let come into force.
func approvalsInForge(config *reviews.Config) int {
	most := 1
	for _, r := range config.Spec.Approvals {
		if r.Mode == "forge" {
			most = max(most, r.Threshold)
		}
	}
	return most
}

func forgeToken(kind string) string {
	for _, name := range forgeTokens[kind] {
		if token := strings.TrimSpace(os.Getenv(name)); token != "" {
			return token
		}
	}
	return ""
}

// mergedConfig is the config of the newest merged commit, nil when that has no usable one.
func (r *accessRepo) mergedConfig(ctx context.Context) (*reviews.Config, error) {
	merged, err := r.merged(ctx)
	if err != nil {
		return nil, err
	}
	source, err := reviews.ReadSource(merged.files, reviews.ConfigPath)
	if err != nil {
		return nil, nil
	}
	config, err := reviews.ParseConfig(reviews.ConfigPath, source.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the settings at %s are not usable: %w", merged.ref, err)
	}
	return config, nil
}

// assertProtection adds what the protection of the merged branch lacks to a report.
// Not being able to ask is an error: the flag says that somebody relies on it.
func (g *globals) assertProtection(ctx context.Context, r *ci.Report) error {
	repo, err := g.open(ctx)
	if err != nil {
		return err
	}
	f, err := g.forgeFor(ctx, repo)
	if err != nil {
		return err
	}
	if f.protection == nil {
		return hint(errors.New("the protection of the merged branch cannot be checked: no forge is set up here"), "write spec.forge in %s, and give a token in SALLYPORT_FORGE_TOKEN", reviews.ConfigPath)
	}
	lacks, err := f.protection(ctx, repo.branch)
	if err != nil {
		return err
	}
	r.Add(ci.Protection(repo.branch, lacks)...)
	return nil
}
