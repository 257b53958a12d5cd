package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
	onForge "github.com/sallyport-dev/sallyport/reviews/forge"
)

// mergeJob is `check --merge`: a pull request that the rules of its base admit without anybody's approval is merged, as it was judged. It
// signs nothing and is trusted with nothing: sync asks the same rules again.
type mergeJob struct {
	client *onForge.Client
	pull   *onForge.PullRequest
	report *ci.Report
	paths  []string // what the pull request changes, documents or not
}

var pullRef = regexp.MustCompile(`^refs/pull/([0-9]{1,9})/(?:merge|head)$`)

// pullNumber is the pull request that --merge names.
func (o *checkOptions) pullNumber() (int, error) {
	text := o.merge
	if text == "auto" {
		m := pullRef.FindStringSubmatch(os.Getenv("GITHUB_REF"))
		if m == nil {
			return 0, usage("--merge auto is for the job of a pull request on GitHub or Gitea, whose GITHUB_REF is refs/pull/…; elsewhere write its number")
		}
		text = m[1]
	}
	n, err := strconv.Atoi(strings.TrimPrefix(text, "#"))
	if err != nil || n <= 0 {
		return 0, usage("--merge %s: write the number of a pull request, or auto", o.merge)
	}
	return n, nil
}

// openMerge finds the pull request in the forge that the base's settings name, whatever the change says, and has its head judged.
func (o *checkOptions) openMerge(ctx context.Context, repo *accessRepo, base string) (*mergeJob, error) {
	number, err := o.pullNumber()
	if err != nil {
		return nil, err
	}
	settings, ok := repo.git.blob(ctx, base, reviews.ConfigPath)
	if !ok {
		return nil, fmt.Errorf("the base %.12s has no %s", base, reviews.ConfigPath)
	}
	config, err := reviews.ParseConfig(reviews.ConfigPath, settings)
	if err != nil {
		return nil, fmt.Errorf("the settings of the base %.12s are not usable: %w", base, err)
	}
	client, err := clientOf(ctx, repo, config)
	if err != nil {
		return nil, err
	}
	if client == nil {
		return nil, hint(errors.New("--merge needs a forge: the merged settings name none, or there is no token for it"), "write spec.forge in %s, and give the job's token in SALLYPORT_FORGE_TOKEN", reviews.ConfigPath)
	}
	m := &mergeJob{client: client}
	if m.pull, err = client.PullRequest(ctx, number); err != nil {
		return nil, err
	}
	switch p := m.pull; {
	case !p.Open:
		return nil, fmt.Errorf("pull request %d is not open", number)
	case p.Base != config.Spec.Branch:
		return nil, fmt.Errorf("pull request %d goes to %s, and %s is what is in force", number, oneLine(p.Base), oneLine(config.Spec.Branch))
	case !strings.EqualFold(p.HeadRepo, config.Spec.Forge.Repository):
		return nil, fmt.Errorf("pull request %d comes from another repository: anybody could ask there, so a person merges it", number)
	}
	if _, err := repo.git.git(ctx, "rev-parse", "--verify", "--quiet", m.pull.Head+"^{commit}"); err != nil {
		return nil, hint(fmt.Errorf("the head of pull request %d, commit %.12s, is not in this clone", number, m.pull.Head), "it was pushed to since; the job of the newer commit judges that")
	}
	return m, nil
}

// refusal says why a person has to merge, "" when nobody has to.
func (m *mergeJob) refusal() string {
	r := m.report
	if !r.OK {
		return "it has errors"
	}
	if len(r.Pending) > 0 {
		return r.Pending[0].Path + " needs the approval of people"
	}
	if len(r.Automatic) == 0 {
		return "no auto_approve rule of the merged policies approves anything in it"
	}
	for _, path := range m.paths {
		if !slices.Contains(r.Automatic, signedDocument(path)) {
			return "it also changes " + oneLine(path) + ", which no auto_approve rule approves"
		}
	}
	return ""
}

// merge merges the commit that was judged, and says what became of it. What people or the forge have to decide is no error.
func (m *mergeJob) merge(ctx context.Context) (said string, err error) {
	if why := m.refusal(); why != "" {
		return fmt.Sprintf("not merged: %s", why), nil
	}
	words, err := m.client.Reviews(ctx, m.pull.Number)
	if err != nil {
		return "", err
	}
	for _, r := range words { // of whatever commit: it stands until it is taken back
		if r.State == onForge.ChangesRequested {
			return fmt.Sprintf("not merged: %s asked for changes; once that is answered or dismissed, a person merges it, or the job runs again", cell(r.User.Login)), nil
		}
	}
	err = m.client.Merge(ctx, m.pull.Number, m.pull.Head)
	if errors.Is(err, onForge.ErrBlocked) {
		return "not merged: " + clean(err.Error()), nil
	}
	if err != nil {
		return "", hint(err, "the job's token needs to write contents and pull requests; whoever may merge can do it by hand")
	}
	return fmt.Sprintf("merged pull request %d at %.12s", m.pull.Number, m.pull.Head), nil
}
