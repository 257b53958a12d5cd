package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// complete asks for what is missing, where there is a terminal to ask on.
func (o *requestOptions) complete(connection string, head *snapshot) (string, error) {
	missing := ""
	switch {
	case connection == "":
		missing = "CONNECTION"
	case o.renew:
	case o.as == "":
		missing = "--as: who is to get access, for example agent:etl"
	case strings.TrimSpace(o.reason) == "":
		missing = "--reason: why, for the people who review it"
	}
	if missing == "" {
		return connection, nil
	}
	p, err := openPrompt()
	if err != nil {
		return "", err
	}
	if p == nil {
		return "", usage("missing %s", missing)
	}
	o.prompt = p // run closes it
	tree, err := usableTree(head)
	if err != nil {
		return "", err
	}
	return o.ask(p, tree, connection)
}

func (o *requestOptions) ask(p *prompt, tree *reviews.Tree, connection string) (string, error) {
	var err error
	names := sortedKeys(tree.Connections)
	if o.renew {
		names = sortedKeys(tree.Reviews)
	}
	known := func(words []string) func(string) error {
		return func(answer string) error {
			if !slices.Contains(words, answer) {
				return fmt.Errorf("there is no %q; Tab completes", answer)
			}
			return nil
		}
	}
	if connection == "" {
		question := "Connection"
		if o.renew {
			question = "Review"
		}
		if connection, err = p.ask(question, only(names), names, known(names)); err != nil || o.renew {
			return connection, err
		}
	}
	target := tree.Connections[connection]
	if target == nil {
		return connection, nil // the draft says what there is
	}
	if o.as == "" {
		principals := tree.PrincipalNames()
		if o.as, err = p.ask("Who gets the access", "", principals, known(principals)); err != nil {
			return "", err
		}
		if owner := tree.Owner(o.as); o.requester == "" && owner != "" {
			people := slices.DeleteFunc(slices.Clone(principals), func(name string) bool { return !strings.HasPrefix(name, "user:") })
			if o.requester, err = p.ask("Who asks", ownPrincipal(tree), people, known(people)); err != nil {
				return "", err
			}
		}
	}
	if len(o.allow) == 0 {
		if err := o.askAllow(p, target); err != nil {
			return "", err
		}
	}
	if !o.lifetimeGiven {
		text, err := p.ask("For how long, such as 24h", reviews.Duration(o.lifetime).String(), nil, func(answer string) error {
			var d reviews.Duration
			return d.UnmarshalText([]byte(answer))
		})
		if err != nil {
			return "", err
		}
		if o.lifetime, err = time.ParseDuration(text); err != nil {
			return "", err
		}
	}
	if strings.TrimSpace(o.reason) == "" {
		o.reason, err = p.ask("Why", "", nil, func(answer string) error {
			if answer == "" {
				return errors.New("people who review it need to know")
			}
			return nil
		})
	}
	return connection, err
}

// askAllow asks for rules until there is an empty answer.
func (o *requestOptions) askAllow(p *prompt, target *reviews.Connection) error {
	relations, err := relationsOf(target)
	if err != nil {
		relations = nil // the names are then typed
	}
	words := slices.Concat(relations, reviews.PostgresVerbs)
	for {
		question := "What, such as select:app.orders"
		if target.Spec.Protocol == "ssh" {
			question = "What, such as exec:systemctl restart web-1, or sftp:read:/var/log/**"
		}
		if len(o.allow) > 0 {
			question = "What else (nothing: go on)"
		}
		text, err := p.ask(question, "", words, func(answer string) error {
			if answer == "" && (len(o.allow) > 0 || relations != nil) {
				return nil
			}
			_, err := parseAllow(answer, target.Spec.Protocol)
			return err
		})
		if err != nil || text == "" {
			return err
		}
		o.allow = append(o.allow, text)
		words = slices.Concat(relations, reviews.PostgresVerbs)
	}
}

// only is the one word there is.
func only(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return ""
}

// ciVerdict is what CI will say about a request.
type ciVerdict struct {
	OK       bool               `json:"ok"`
	Problems reviews.Problems   `json:"problems"`
	Untested string             `json:"untested,omitempty"`
	Examples []ci.Outcome       `json:"examples"`
	Awaiting []reviewsToApprove `json:"awaiting"`
}

// foresee judges the draft the way CI and reviewers will.
func (o *requestOptions) foresee(ctx context.Context, repo *accessRepo, head *snapshot, d *draft) (*ciVerdict, error) {
	now := time.Now()
	s, err := openProposals(ctx, repo, now)
	if err != nil {
		return nil, err
	}
	more := fstest.MapFS{d.path: {Data: d.text, Mode: 0o644}}
	p, err := s.openWith(ctx, branch{ref: d.branch, name: d.branch, commit: head.commit}, more)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, hint(fmt.Errorf("%s would be what it is already", d.path), "there is nothing to ask for")
	}
	r, err := p.report(ctx, now, d.path)
	if err != nil {
		return nil, err
	}
	v := &ciVerdict{Problems: reviews.Problems{}, Examples: []ci.Outcome{}, Awaiting: r.Awaiting}
	for _, problem := range r.Problems {
		if problem.File == d.path {
			v.Problems = append(v.Problems, problem)
		}
	}
	for _, document := range r.Documents {
		v.Examples, v.Untested = document.Examples, document.Untested
	}
	v.OK = len(v.Problems) == 0 && v.Untested == "" && !slices.ContainsFunc(v.Examples, func(e ci.Outcome) bool { return !e.Passed })
	return v, nil
}

func (v *ciVerdict) print(out io.Writer) {
	verdict := "pass"
	if !v.OK {
		verdict = "fail"
	}
	fmt.Fprintf(out, "CI will %s:\n", verdict)
	for _, p := range v.Problems {
		fmt.Fprintf(out, "  problem: %s\n", oneLine(p.Error()))
	}
	if v.Untested != "" {
		fmt.Fprintf(out, "  examples cannot run: %s\n", oneLine(v.Untested))
	}
	for _, e := range v.Examples {
		fmt.Fprintf(out, "  %s\n", exampleLine(e, oneLine))
	}
	for _, a := range v.Awaiting {
		for _, n := range a.Needs {
			fmt.Fprintf(out, "  then needed: %s\n", needText(n))
		}
	}
	fmt.Fprintln(out)
}

// renewal is a merged review with the next sequence and a new validity.
func (o *requestOptions) renewal(ctx context.Context, repo *accessRepo, merged *snapshot, name string) (*draft, error) {
	if len(o.allow) > 0 || o.ticket != "" || o.requester != "" || o.reason != "" {
		return nil, usage("--renew asks for the review as it is: leave --allow, --reason, --ticket and --requester out, or ask anew")
	}
	tree, err := usableTree(merged)
	if err != nil {
		return nil, err
	}
	if reviews.IsConnection(name) {
		if name, err = o.renewable(tree, name); err != nil {
			return nil, err
		}
	}
	review := tree.Reviews[name]
	if review == nil && len(tree.Reviews) == 0 {
		return nil, hint(fmt.Errorf("%s has no usable review %s, nor any other", merged.ref, oneLine(name)), "sallyport check --ref %s says what is wrong with it, if it is there; else ask anew, without --renew", merged.ref)
	}
	if review == nil {
		return nil, hint(fmt.Errorf("%s has no usable review %s", merged.ref, oneLine(name)), "its reviews: %s", shortList(sortedKeys(tree.Reviews), 20))
	}
	lifetime := time.Duration(0)
	if o.lifetimeGiven {
		lifetime = o.lifetime
	}
	return renew(ctx, repo, merged, tree, review, lifetime)
}

// renewable is the one review on the connection that is meant.
func (o *requestOptions) renewable(tree *reviews.Tree, connection string) (string, error) {
	if o.name != "" {
		return connection + "/" + o.name, nil
	}
	var names []string
	for _, name := range sortedKeys(tree.Reviews) {
		if r := tree.Reviews[name]; r.Spec.Connection == connection && (o.as == "" || r.Spec.Subject == o.as) {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return "", hint(fmt.Errorf("%s on %s", count(len(names), "review"), connection), "say which one: sallyport request %s/NAME --renew", connection)
	}
	return names[0], nil
}

// renew writes the review anew, from now on for as long as it was, or for lifetime.
func renew(ctx context.Context, repo *accessRepo, merged *snapshot, tree *reviews.Tree, review *reviews.Review, lifetime time.Duration) (*draft, error) {
	v := review.Spec.Validity
	if lifetime == 0 {
		lifetime = v.Expires.Sub(v.NotBefore)
	}
	if most := tree.Config.Spec.MaxReviewLifetime.Std(); lifetime > most {
		return nil, hint(fmt.Errorf("%s is longer than the %s that %s allows", span(lifetime), span(most), reviews.ConfigPath), "ask for less with --for")
	}
	d := &draft{path: review.Source.Path, renews: true}
	sequence, err := nextSequence(ctx, repo, d.path, merged.commit, "HEAD")
	if err != nil {
		return nil, err
	}
	begin := time.Now().UTC().Truncate(time.Minute)
	d.text, d.review, err = rewrite(d.path, review.Source.Bytes, rewriting{sequence, &reviews.Validity{NotBefore: begin, Expires: begin.Add(lifetime).Truncate(time.Second)}})
	d.branch = fmt.Sprintf("renew/%s/%d", review.Metadata.Name, sequence)
	return d, err
}
