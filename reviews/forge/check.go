package forge

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-github/v60/github"
)

// Note is one remark at a place in a file.
type Note struct {
	Path    string
	Line    int    // from 1
	Level   string // notice | warning | failure
	Title   string
	Message string
}

// Check is a check run: a status with notes at places in files. GitHub only, and only with a token of a GitHub App, which that of GitHub
// Actions is.
type Check struct {
	Name    string
	Commit  string
	Verdict Verdict // Success or Failure
	Title   string
	Summary string // Markdown
	Notes   []Note
	URL     string
}

// maxNotes is what GitHub takes in one request.
const maxNotes = 50

// ErrNoChecks means that the forge has no check runs; use SetStatus.
var ErrNoChecks = errors.New("this forge has no check runs")

// Report puts a check run on a commit. It is shown as completed only once all its notes are there.
func (c *Client) Report(ctx context.Context, check Check) error {
	g, ok := c.api.(*gitHub)
	if !ok {
		return ErrNoChecks
	}
	if !validCommit(check.Commit) || check.Name == "" || check.Verdict != Success && check.Verdict != Failure {
		return errors.New("check run: it needs a name, a full commit id and the verdict success or failure")
	}
	if err := g.report(ctx, check); err != nil {
		return fmt.Errorf("check run %s of commit %.12s: %w", check.Name, check.Commit, err)
	}
	return nil
}

func (g *gitHub) report(ctx context.Context, check Check) error {
	batch, rest := split(check.Notes)
	create := github.CreateCheckRunOptions{
		Name: check.Name, HeadSHA: check.Commit, Status: github.String("in_progress"), Output: output(check, batch),
	}
	if check.URL != "" {
		create.DetailsURL = &check.URL
	}
	run, _, err := g.api.Checks.CreateCheckRun(ctx, g.owner, g.name, create)
	if err != nil {
		return plain(err)
	}
	for {
		batch, rest = split(rest)
		update := github.UpdateCheckRunOptions{Name: check.Name, Output: output(check, batch)}
		if len(rest) == 0 {
			update.Status, update.Conclusion = github.String("completed"), github.String(string(check.Verdict))
		}
		if _, _, err := g.api.Checks.UpdateCheckRun(ctx, g.owner, g.name, run.GetID(), update); err != nil {
			return plain(err)
		}
		if len(rest) == 0 {
			return nil
		}
	}
}

func split(notes []Note) (batch, rest []Note) {
	n := min(len(notes), maxNotes)
	return notes[:n], notes[n:]
}

func output(check Check, notes []Note) *github.CheckRunOutput {
	out := &github.CheckRunOutput{Title: &check.Title, Summary: &check.Summary}
	for _, n := range notes {
		out.Annotations = append(out.Annotations, &github.CheckRunAnnotation{
			Path: &n.Path, StartLine: &n.Line, EndLine: &n.Line, AnnotationLevel: &n.Level, Title: &n.Title, Message: &n.Message,
		})
	}
	return out
}
