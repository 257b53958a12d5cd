package main

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// workflow is what the tests look at in a workflow of GitHub or Gitea, and in an action.
type workflow struct {
	On          map[string]any
	Permissions map[string]string
	Jobs        map[string]struct {
		Needs       string
		If          string
		Permissions map[string]string
		Steps       []workflowStep
	}
	Runs struct{ Steps []workflowStep }
}

type workflowStep struct {
	Uses string
	Run  string
	With map[string]any
	Env  map[string]string
}

func sampleFiles(t *testing.T, auto bool) map[string]string {
	t.Helper()
	s := &sample{Branch: "main", Version: "latest", Forges: forges, Repository: "x", AgentOwner: "user:a", Auto: auto}
	files, err := s.files()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, f := range files {
		all[f.Path] = f.Text
	}
	return all
}

var pinComment = regexp.MustCompile(`(?m)^\s*- uses: \S+@\S+ # PIN: \S+@<40-digit commit> # v\d+$`)

// What init writes may run on a stranger's change: it reads, holds no secret, and
// judges by the base.
func TestWorkflowsAreHarmless(t *testing.T) {
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprint("auto=", auto), func(t *testing.T) { workflowsAreHarmless(t, auto) })
	}
}

func workflowsAreHarmless(t *testing.T, auto bool) {
	files := sampleFiles(t, auto)
	action, err := os.ReadFile("../../ci/action.yml")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"action": string(action)}
	for _, name := range []string{".github/workflows/sallyport.yml", ".gitea/workflows/sallyport.yml", ".gitlab-ci.yml"} {
		if texts[name] = files[name]; texts[name] == "" {
			t.Fatalf("no %s", name)
		}
	}
	for name, text := range texts {
		for _, never := range []string{"pull_request_target", "workflow_run", "secrets.", "write-all", "id-token", "permissions: write", "PRIVATE", "_KEY"} {
			if strings.Contains(text, never) {
				t.Errorf("%s has %q", name, never)
			}
		}
		if !strings.Contains(text, "PIN: ") || !strings.Contains(text, "--base ") || !strings.Contains(text, "--require-approved") {
			t.Errorf("%s is not pinned, or does not judge by the base", name)
		}
		if uses, pinned := strings.Count(text, "- uses: "), len(pinComment.FindAllString(text, -1)); name != "action" && name != ".gitlab-ci.yml" && (uses == 0 || uses != pinned) {
			t.Errorf("%s: %d of %d actions say how to pin them", name, pinned, uses)
		}
		var w workflow
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		steps := w.Runs.Steps
		if strings.HasSuffix(name, "sallyport.yml") {
			if !reflect.DeepEqual(w.Permissions, map[string]string{"contents": "read"}) {
				t.Errorf("%s: permissions %v", name, w.Permissions)
			}
			if _, ok := w.On["pull_request"]; !ok || len(w.On) != 2 {
				t.Errorf("%s runs on %v", name, w.On)
			}
			if auto {
				mergesOnly(t, name, &w)
				delete(w.Jobs, "merge")
			}
			if job := w.Jobs["check"]; len(job.Permissions) > 0 || len(w.Jobs) != 1 || job.Steps[0].With["fetch-depth"] != 0 || job.Steps[0].With["persist-credentials"] != false {
				t.Errorf("%s: %+v", name, w.Jobs)
			}
			steps = w.Jobs["check"].Steps
		}
		for _, s := range steps {
			if strings.Contains(s.Run, "${{") {
				t.Errorf("%s puts text of the event into a script: %s", name, s.Run)
			}
			checkShell(t, s.Run)
		}
	}
}

// mergesOnly holds the job that may write to one command of ours, after the check has passed, for branches of the repository itself.
func mergesOnly(t *testing.T, name string, w *workflow) {
	t.Helper()
	job := w.Jobs["merge"]
	if !reflect.DeepEqual(job.Permissions, map[string]string{"contents": "write", "pull-requests": "write"}) || job.Needs != "check" ||
		job.If != "${{ github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository }}" {
		t.Errorf("%s: %+v", name, job)
	}
	if c := job.Steps[0].With; c["fetch-depth"] != 0 || c["persist-credentials"] != false || c["ref"] != nil {
		t.Errorf("%s checks out %v", name, c)
	}
	tokens := 0
	for _, s := range job.Steps {
		checkShell(t, s.Run)
		if strings.Contains(s.Run, "${{") {
			t.Errorf("%s puts text of the event into a script: %s", name, s.Run)
		}
		if len(s.Env) == 0 {
			continue
		}
		tokens++
		if s.Run != `sallyport check --base "origin/$GITHUB_BASE_REF" --merge auto` || !reflect.DeepEqual(s.Env, map[string]string{"SALLYPORT_FORGE_TOKEN": "${{ github.token }}"}) {
			t.Errorf("%s gives the token to %+v", name, s)
		}
	}
	if tokens != 1 {
		t.Errorf("%s: %d steps have the token", name, tokens)
	}
}

// checkShell has bash parse a script without running it.
func checkShell(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", err, out, script)
	}
}

// testdata/script/workflow.txtar runs the lines that the workflow runs.
func TestWorkflowIsWhatTheScriptRuns(t *testing.T) {
	var w workflow
	if err := yaml.Unmarshal([]byte(sampleFiles(t, false)[".github/workflows/sallyport.yml"]), &w); err != nil {
		t.Fatal(err)
	}
	var script string
	for _, s := range w.Jobs["check"].Steps {
		if strings.HasPrefix(strings.TrimSpace(s.Run), "if [") || s.Run == "sallyport test" {
			script += s.Run + "\n"
		}
	}
	if strings.Count(script, "sallyport ") != 3 {
		t.Fatalf("the workflow runs %s", script)
	}
	b, err := os.ReadFile("testdata/script/workflow.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "-- run.sh --\n"+script) {
		t.Errorf("testdata/script/workflow.txtar runs other lines than the workflow:\n%s", script)
	}
}
