package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sallyport-dev/sallyport/policies/release"
)

// followOptions say how to follow a request, and how far.
type followOptions struct {
	release, status string
	every, timeout  time.Duration
}

func (o *followOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.release, "release", "", "with --wait: the release directory, to see the release that enforces it")
	f.StringVar(&o.status, "status", "", "with --wait: a gateway's admin address, such as http://127.0.0.1:9090, to see that it enforces it")
	f.DurationVar(&o.every, "every", 2*time.Second, "with --wait: how often to look")
	f.DurationVar(&o.timeout, "timeout", 24*time.Hour, "with --wait: how long at most")
}

// followed is how far a request has come.
type followed struct {
	Have     int    `json:"approvals"` // of Needed
	Needed   int    `json:"approvalsNeeded"`
	Checks   string `json:"checks,omitempty"` // what the forge says of CI
	Merged   string `json:"merged,omitempty"` // the commit that has it
	Enforced string `json:"enforced,omitempty"`

	word    *forgeWord // who approved the pull request
	asked   string     // the commit that the forge was last asked about
	askedAt time.Time
}

// until follows a request to the end and shows each step once.
func (o *followOptions) until(ctx context.Context, g *globals, repo *accessRepo, d *draft, p *proposed, show func(string)) (*followed, error) {
	if o.every < 100*time.Millisecond {
		return nil, usage("--every %s is too often", o.every)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	f, err := g.forgeFor(ctx, repo)
	if err != nil {
		return nil, err
	}
	state := &followed{}
	said := ""
	for {
		done, err := o.look(ctx, repo, f, d, p, state)
		if ctx.Err() != nil && !done {
			err = nil // what failed may have failed because the time was over
		}
		if line := state.String(); line != said && line != "" {
			show(line)
			said = line
		}
		if done || err != nil {
			return state, err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return state, hint(fmt.Errorf("it is not there after %s", o.timeout), "it goes on without this: sallyport review %s shows where it stands", d.branch)
			}
			return state, ctx.Err()
		case <-time.After(o.every):
		}
	}
}

// String is the state as people read it.
func (s *followed) String() string {
	var parts []string
	if s.Checks != "" {
		parts = append(parts, s.Checks)
	}
	switch {
	case s.Merged != "":
		parts = append(parts, fmt.Sprintf("merged at %.12s", s.Merged))
	case s.Needed > 0:
		parts = append(parts, fmt.Sprintf("%d of %s", s.Have, count(s.Needed, "approval")))
	}
	if s.Enforced != "" {
		parts = append(parts, s.Enforced)
	}
	return strings.Join(parts, ", ")
}

// look is one look at git and at what enforces it. A remote that does not answer
// is asked again.
func (o *followOptions) look(ctx context.Context, repo *accessRepo, f *forge, d *draft, p *proposed, state *followed) (done bool, err error) {
	if fetchRemote(ctx, repo.git) != nil {
		return false, nil
	}
	s, err := openProposals(ctx, repo, time.Now())
	if err != nil {
		return false, err
	}
	if b, err := fs.ReadFile(s.merged.files, d.path); err == nil && bytes.Equal(b, d.text) {
		state.Merged = s.merged.commit
		if state.Enforced == "" {
			state.Enforced = o.enforced(ctx, repo, s, d)
		}
		return state.Enforced != "" || o.release == "" && o.status == "", nil
	}
	commit := ""
	for _, ref := range repo.git.refsOf(ctx, p.Branch) {
		if commit, err = repo.git.git(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}"); err == nil {
			break
		}
		if p.Pushed { // the remote's word counts, not the clone's own branch
			return false, hint(fmt.Errorf("branch %s was deleted and is not merged", p.Branch), "somebody closed the request; ask them, or ask anew")
		}
	}
	o.ask(ctx, repo, f, commit, p, state)
	change, err := s.open(ctx, branch{ref: p.Branch, name: p.Branch, commit: commit})
	if err != nil || change == nil {
		return false, err
	}
	if countsOnForge(s.before.Config) {
		change.hear(state.word)
	}
	if pending := change.pending(d.path); pending != nil {
		state.Have, state.Needed = 0, 0
		for _, n := range pending.Needs {
			state.Have, state.Needed = state.Have+len(n.Have), state.Needed+n.Threshold
		}
	} else {
		state.Needed = max(state.Needed, 1)
		state.Have = state.Needed
	}
	return false, nil
}

// forgeEvery is how often the forge is asked, which counts requests, while git is looked at oftener.
const forgeEvery = 5 * time.Second

// ask asks the forge about CI and approvals. What it does not tell stays as it was.
func (o *followOptions) ask(ctx context.Context, repo *accessRepo, f *forge, commit string, p *proposed, state *followed) {
	if commit == "" || commit == state.asked && time.Since(state.askedAt) < forgeEvery {
		return
	}
	state.asked, state.askedAt = commit, time.Now()
	if f.checks != nil {
		if said, err := f.checks(ctx, commit); err == nil {
			state.Checks = said
		}
	}
	if f.word != nil {
		number := 0
		if m := pullURL.FindStringSubmatch(p.Pull); m != nil {
			number, _ = strconv.Atoi(m[1])
		}
		if w, err := f.word(ctx, number, p.Branch); err == nil {
			state.word = w
		}
	}
}

// enforced says which release has exactly these bytes, "" when none that can be seen.
func (o *followOptions) enforced(ctx context.Context, repo *accessRepo, s *proposals, d *draft) string {
	digest := sha256Hex(d.text)
	if o.release != "" {
		trust := release.Trust{RootDigest: s.before.Root.Source.SHA256, Repo: s.before.Repo}
		r, err := release.Open(ctx, o.release, trust, nil, time.Now())
		if err != nil {
			return ""
		}
		c := r.Connections[d.review.Spec.Connection]
		if c == nil || c.Review(d.review.Metadata.Name) == nil || c.Review(d.review.Metadata.Name).SHA256 != digest {
			return ""
		}
		if o.status == "" {
			return fmt.Sprintf("in release %d", r.Envelope.Sequence)
		}
	}
	if o.status == "" {
		return ""
	}
	gateway, sequence, commit, err := gatewayRelease(ctx, o.status)
	if err != nil {
		return ""
	}
	// The gateway's release is of that commit, which has these bytes: unless sync closed them, they are in force.
	b, ok := repo.git.blob(ctx, commit, d.path)
	if !ok || sha256Hex(b) != digest {
		return ""
	}
	return fmt.Sprintf("enforced in release %d by %s", sequence, oneLine(gateway))
}

// gatewayRelease asks a gateway's admin listener which release it enforces.
func gatewayRelease(ctx context.Context, address string) (gateway string, sequence int64, commit string, err error) {
	status, _, err := gatewayStatus(ctx, address)
	if err != nil {
		return "", 0, "", err
	}
	return status.Gateway, status.Release.Sequence, status.Release.Commit, nil
}

// gatewayState is what is read of a gateway's /status.
type gatewayState struct {
	Gateway    string `json:"gateway"`
	Ready      bool   `json:"ready"`
	NextAction string `json:"nextAction"`
	LastError  string `json:"lastError"`
	Release    struct {
		Sequence   int64     `json:"sequence"`
		Commit     string    `json:"commit"`
		ValidUntil time.Time `json:"validUntil"`
	} `json:"release"`
}

// gatewayStatus asks a gateway's admin listener. date is its clock, zero when it does not tell.
func gatewayStatus(ctx context.Context, address string) (status gatewayState, date time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/status", nil)
	if err != nil {
		return status, date, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return status, date, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<20)).Decode(&status); err != nil {
		return status, date, fmt.Errorf("what answers at %s is not gatewayd: %w", address, err)
	}
	date, _ = http.ParseTime(response.Header.Get("Date"))
	return status, date, nil
}
