package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// approved is what review --approve prints.
type approved struct {
	Ref       string        `json:"ref"`
	Signed    []*approval   `json:"signed"`
	Commit    string        `json:"commit"`
	Pushed    bool          `json:"pushed"`
	Digest    string        `json:"digest"`
	StillNeed []reviewsNeed `json:"stillNeeded"`
}

type reviewsNeed struct {
	Path string `json:"path"`
	Need string `json:"need"`
}

// sign shows the change, has it confirmed, looks once more whether it is still
// that one, and signs exactly the bytes that were shown.
func (o *reviewOptions) sign(c *cobra.Command, g *globals, s *proposals, p *proposal, r *reviewReport, only string) error {
	ctx, out := c.Context(), c.OutOrStdout()
	if !g.json {
		reviewText(out, r)
	}
	if len(r.Problems) > 0 {
		return hint(fmt.Errorf("%s has %s, so there is nothing sound to approve", oneLine(r.Ref), count(len(r.Problems), "problem")), "have them mended first")
	}
	wanted := p.awaiting(o.as)
	if only != "" {
		wanted = slices.DeleteFunc(wanted, func(path string) bool { return path != only })
	}
	if len(wanted) == 0 {
		return hint(fmt.Errorf("nothing of %s needs an approval that %s could give", oneLine(r.Ref), o.as), "the lines above say who could")
	}
	if p.branch == "" {
		return hint(fmt.Errorf("%s is not a branch of the remote, so a signature cannot be pushed to it", oneLine(r.Ref)), "sign in a clone of the fork that it comes from, with sallyport sign, or name a branch")
	}
	if err := o.confirm(r, wanted); err != nil {
		return err
	}
	signer, err := openKeyOf(o.as, p.after.Keys(o.as), o.key)
	if err != nil {
		return err
	}
	defer signer.Close()
	if err := o.unmoved(ctx, s.repo, p, r, only); err != nil {
		return err
	}
	result := &approved{Ref: r.Ref, Digest: r.Digest, StillNeed: []reviewsNeed{}}
	sidecars := make(map[string][]byte)
	for _, path := range wanted {
		a, err := signShown(signer, o.as, path, p.bytes[path])
		if err != nil {
			return err
		}
		sidecars[a.Sidecar] = a.signature
		result.Signed = append(result.Signed, a)
	}
	message := fmt.Sprintf("Sign %s as %s", strings.Join(wanted, ", "), o.as)
	if result.Commit, err = s.repo.git.commitOnTop(ctx, p.commit, o.as, message, sidecars); err != nil {
		return err
	}
	if result.Pushed, err = s.repo.git.deliver(ctx, p.branch, p.commit, result.Commit); err != nil {
		return err
	}
	o.still(result, r, wanted)
	return result.print(out, g.json, o.as)
}

// confirm takes the digest that was given, or asks.
func (o *reviewOptions) confirm(r *reviewReport, wanted []string) error {
	if o.digest != "" {
		if len(o.digest) < 12 {
			return usage("--digest %s is too short: write at least 12 digits", o.digest)
		}
		if !strings.HasPrefix(r.Digest, o.digest) {
			return hint(fmt.Errorf("%s is not what was shown under digest %s: it, its connection, the settings or the trust root changed since", oneLine(r.Ref), oneLine(o.digest)),
				"nothing was signed; look at it again: sallyport review %s", approvable(r))
		}
		return nil
	}
	yes, err := agree(fmt.Sprintf("Sign %s as %s?", count(len(wanted), "document"), o.as))
	if err != nil {
		return hint(fmt.Errorf("%w, so nothing was signed", err), "look at it, then say what you saw: --approve --digest %s", short(r.Digest))
	}
	if !yes {
		return errors.New("not approved; nothing was signed")
	}
	return nil
}

// unmoved looks again, as close to the signing as can be: somebody may have read for an hour.
func (o *reviewOptions) unmoved(ctx context.Context, repo *accessRepo, shown *proposal, r *reviewReport, only string) error {
	if !o.noFetch {
		if err := fetchRemote(ctx, repo.git); err != nil {
			return err
		}
	}
	commit := shown.commit
	for _, ref := range repo.git.refsOf(ctx, shown.branch) {
		at, err := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}")
		if err != nil {
			continue
		}
		commit = at
		break
	}
	merged, err := repo.merged(ctx)
	if err != nil {
		return err
	}
	if commit == shown.commit && merged.commit == shown.merged.commit {
		return nil
	}
	s, err := openProposals(ctx, repo, time.Now())
	if err != nil {
		return err
	}
	now, err := s.must(ctx, branch{ref: shown.name, name: shown.branch, commit: commit}, shown.name)
	if err != nil {
		return err
	}
	if now.digest(only) != r.Digest {
		return hint(fmt.Errorf("%s is not what was shown any more: it or %s moved, with other documents", oneLine(shown.name), s.merged.ref), "nothing was signed; look at it again")
	}
	shown.commit = commit // somebody else's approval came in between: the documents are those that were shown
	return nil
}

// refsOf are where a branch may stand, the remote's before the clone's own.
func (w *workTree) refsOf(ctx context.Context, name string) []string {
	refs := []string{"refs/heads/" + name}
	if remote := w.remote(ctx); remote != "" {
		refs = append([]string{"refs/remotes/" + remote + "/" + name}, refs...)
	}
	return refs
}

// signShown signs bytes that were shown.
func signShown(signer *reviews.Signer, as, path string, b []byte) (*approval, error) {
	kind := reviews.KindOf(path)
	signature, err := reviews.Sign(signer, reviews.NamespaceFor(kind), b)
	if err != nil {
		return nil, err
	}
	return &approval{Path: path, SHA256: sha256Hex(b), Sidecar: reviews.SidecarPath(path, as, signer.PublicKey()), signature: signature, kind: kind}, nil
}

func (o *reviewOptions) still(result *approved, r *reviewReport, signed []string) {
	for _, a := range r.Awaiting {
		for _, n := range a.Needs {
			have := len(n.Have)
			if slices.Contains(signed, a.Path) && slices.Contains(n.Eligible, o.as) {
				n.Have, n.Eligible = append(slices.Clone(n.Have), o.as), slices.DeleteFunc(slices.Clone(n.Eligible), func(e string) bool { return e == o.as })
				have++
			}
			if have < n.Threshold {
				result.StillNeed = append(result.StillNeed, reviewsNeed{a.Path, needText(n)})
			}
		}
	}
}

func (r *approved) print(out io.Writer, asJSON bool, as string) error {
	if asJSON {
		return printJSON(out, r)
	}
	where := "committed on"
	if r.Pushed {
		where = "pushed to"
	}
	fmt.Fprintf(out, "\nsigned %s as %s, %s %s at %.12s\n", count(len(r.Signed), "document"), as, where, oneLine(r.Ref), r.Commit)
	for _, n := range r.StillNeed {
		fmt.Fprintf(out, "still needed for %s: %s\n", oneLine(n.Path), n.Need)
	}
	if len(r.StillNeed) == 0 {
		fmt.Fprintln(out, "it has all approvals: it can be merged")
	}
	return nil
}

// deliver moves a branch from one commit to the next: at the remote when it has
// the branch, with one push that is refused when it moved, and in the clone.
func (w *workTree) deliver(ctx context.Context, name, from, to string) (pushed bool, err error) {
	remote := w.remote(ctx)
	local := "refs/heads/" + name
	if remote != "" {
		if _, err := w.git(ctx, "rev-parse", "--verify", "--quiet", "refs/remotes/"+remote+"/"+name); err == nil {
			lease := "--force-with-lease=" + local + ":" + from
			if _, err := w.git(ctx, "push", "--quiet", lease, remote, to+":"+local); err != nil {
				return false, hint(fmt.Errorf("the signature was not pushed: %w", err), "nothing changed; if the branch moved, look at it again")
			}
			pushed = true
		}
	}
	at, err := w.git(ctx, "rev-parse", "--verify", "--quiet", local)
	switch {
	case err != nil && pushed:
		return true, nil // the clone has no such branch
	case err != nil:
		return false, fmt.Errorf("branch %s is not there any more: %w", oneLine(name), err)
	case at != from:
		if pushed {
			return true, nil // the clone's own has gone elsewhere; git tells at the next pull
		}
		return false, hint(fmt.Errorf("branch %s moved since it was shown", oneLine(name)), "nothing was signed; look at it again")
	}
	if current, err := w.git(ctx, "symbolic-ref", "--quiet", "HEAD"); err == nil && current == local {
		if _, err := w.git(ctx, "merge", "--quiet", "--ff-only", to); err != nil && !pushed {
			return false, err
		}
		return pushed, nil
	}
	_, err = w.git(ctx, "update-ref", "-m", "sallyport review --approve", local, to, from)
	return pushed, err
}

// dialAgent connects to the ssh-agent.
func dialAgent() (net.Conn, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, errors.New("no ssh-agent is running")
	}
	return net.Dial("unix", socket)
}
