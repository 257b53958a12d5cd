package ci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/reviews"
)

// Version is the base at one commit of its first-parent line.
type Version struct {
	Commit string
	At     time.Time // of the commit: signatures count as seen then
	Tree   fs.FS
}

// past is what sync would remember of a document without a sequence.
type past struct {
	accepted    string            // the version in force, by its sha256
	replaced    map[string]string // versions that were, with the commit that replaced or deleted them
	risk, owner string            // of the last version that was in force
}

func (p *past) replace(commit string) {
	if p.accepted != "" && p.replaced[p.accepted] == "" {
		p.replaced[p.accepted] = commit
	}
	p.accepted = ""
}

// unnumbered documents have no sequence that orders their versions.
func unnumbered(doc string) bool {
	switch reviews.KindOf(doc) {
	case reviews.KindConfig, reviews.KindPolicy, reviews.KindPrincipal, reviews.KindConnection, reviews.KindCatalog:
		return true
	}
	return false
}

// older refuses versions that were in force before: their signatures are still good.
func (c *comparison) older(ctx context.Context) error {
	if c.opt.Versions == nil {
		return nil
	}
	for _, doc := range slices.Sorted(maps.Keys(c.touched)) {
		now, err := fs.ReadFile(c.Head, doc)
		if !unnumbered(doc) || err != nil {
			continue // loading says what is wrong with it
		}
		p, err := c.pastOf(ctx, doc, now)
		if err != nil {
			return err
		}
		if by := p.replaced[digestHex(now)]; by != "" {
			c.report.problems(RuleOlder, Error, whole(doc, fmt.Sprintf("it is an older version, which commit %.12s replaced or deleted; an old signed copy does not come back", by),
				"change it (a comment is enough) and have it signed anew"))
		}
	}
	return nil
}

// pastOf goes through the history of a document on the base. With a version given,
// it does so only if the history has one of these bytes.
func (c *comparison) pastOf(ctx context.Context, doc string, version []byte) (*past, error) {
	if known := c.past[doc]; known != nil {
		return known, nil
	}
	p := &past{replaced: make(map[string]string)}
	if c.opt.Versions == nil {
		return p, nil
	}
	versions, err := c.opt.Versions(ctx, doc)
	if err != nil {
		return nil, fmt.Errorf("the history of %s: %w", doc, err)
	}
	if version != nil && !slices.ContainsFunc(versions, func(v Version) bool {
		b, err := fs.ReadFile(v.Tree, doc)
		return err == nil && string(b) == string(version)
	}) {
		return p, nil
	}
	for _, v := range versions {
		p.step(doc, v, c.opt.Now)
	}
	if c.past == nil {
		c.past = make(map[string]*past)
	}
	c.past[doc] = p
	return p, ctx.Err()
}

// step takes in one commit.
func (p *past) step(doc string, v Version, now time.Time) {
	b, err := fs.ReadFile(v.Tree, doc)
	if err != nil { // gone, or something else stands in its place
		p.replace(v.Commit)
		return
	}
	sum := digestHex(b)
	if sum == p.accepted || p.replaced[sum] != "" {
		return
	}
	t, err := reviews.Load(view{head: v.Tree, pick: around(doc)}, reviews.LoadOptions{
		Now: now, Seen: func(string) time.Time { return earlier(v.At, now) },
		RiskBefore: func(string) string { return p.risk }, OwnerBefore: func(name string) string {
			if reviews.PathOf(reviews.KindPrincipal, name) == doc {
				return p.owner
			}
			return ""
		},
	})
	if err != nil {
		return // nothing came into force with it
	}
	found := false
	switch reviews.KindOf(doc) {
	case reviews.KindConfig:
		found = true
	case reviews.KindPolicy:
		found = t.Policies[doc] != nil
	case reviews.KindConnection:
		if connection := t.Connections[nameOf(doc)]; connection != nil {
			found, p.risk = true, connection.Spec.Risk
		}
	case reviews.KindCatalog:
		connection := t.Connections[strings.TrimSuffix(nameOf(doc), ".catalog.json")]
		found = connection != nil && connection.Catalog != nil
	case reviews.KindPrincipal:
		for _, principal := range t.Principals {
			if principal.Source.Path == doc {
				found, p.owner = true, principal.Spec.Owner
			}
		}
	}
	if found {
		p.replace(v.Commit)
		p.accepted = sum
	}
}

// earlier is when sync saw a commit first: a date that its maker chose only makes
// approvals look older.
func earlier(claimed, now time.Time) time.Time {
	if claimed.Before(now) {
		return claimed
	}
	return now
}

// around picks what decides whether a document is in force.
func around(doc string) func(string) side {
	connection := strings.TrimSuffix(strings.TrimSuffix(doc, ".catalog.json"), ".yaml")
	return func(other string) side {
		if judges(other) || strings.HasPrefix(other, "principals/") || other == connection+".yaml" || other == connection+".catalog.json" {
			return head
		}
		return nowhere
	}
}

// loadNext loads what the change makes of the base. What it replaces is asked, too: the
// risk of a connection and the owner of a principal as they are in force.
func (c *comparison) loadNext(ctx context.Context, files fs.FS) (*reviews.Tree, error) {
	owners := make(map[string]string)
	for _, p := range c.base.Principals {
		owners[p.Source.Path] = p.Spec.Owner
	}
	var failed error
	before := func(doc string) *past { // also of what is deleted, or not in force on the base
		if !c.touched[doc] || failed != nil {
			return &past{}
		}
		p, err := c.pastOf(ctx, doc, nil)
		if err != nil {
			failed = err
			return &past{}
		}
		return p
	}
	t, err := reviews.Load(files, reviews.LoadOptions{
		Now: c.opt.Now, Approvals: reviews.ReportApprovals, Cache: c.cache, AutoApprove: AutoApproval(ctx, c.Base),
		RiskBefore: func(name string) string {
			if connection := c.base.Connections[name]; connection != nil {
				return connection.Spec.Risk
			}
			return before(reviews.PathOf(reviews.KindConnection, name)).risk
		},
		OwnerBefore: func(name string) string {
			doc := reviews.PathOf(reviews.KindPrincipal, name)
			if owner, granted := owners[doc]; granted {
				return owner
			}
			return before(doc).owner
		},
	})
	if failed != nil {
		return nil, failed
	}
	if err != nil { // the base loads, so what its rules make of the change loads too
		return nil, fmt.Errorf("the base loads only without the change: %w", err)
	}
	return t, nil
}

func digestHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
