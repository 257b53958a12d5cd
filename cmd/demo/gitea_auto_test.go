//go:build forge

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// asks finds the one command that a challenge names.
var asks = regexp.MustCompile(`ask for access with: (sallyport request .* --reason "why")`)

// playAutomatic is the road without people: a login is refused, the command that the refusal names asks, CI merges what an auto_approve
// rule of the base approves, sync asks that rule again, and the gateway lets the next login in.
func (s *stage) playAutomatic() {
	const promised = 30 * time.Second
	// Nobody can push past CI, which has to have passed; approvals the branch cannot ask for, since there will be none.
	s.call("root", "POST", repository+"branch_protections", map[string]any{"rule_name": "main", "enable_push": false, "enable_status_check": true, "status_check_contexts": []string{checkContext}}, nil)
	defer s.call("root", "DELETE", repository+"branch_protections/main", nil, nil)
	began := time.Now()
	r := s.psqlAs("reports-db", "select count(*) from app.orders")
	m := asks.FindStringSubmatch(r.stderr)
	if r.code == 0 || m == nil {
		s.Fatalf("no challenge: %d %s", r.code, r.all())
	}
	challenged := time.Since(began)
	out := s.do("etl", "sh", "-c", m[1])
	pr := numberIn(s, out)
	asked := time.Since(began)
	if said := s.ci(pr); !strings.Contains(said, fmt.Sprintf("merged pull request %d", pr)) {
		s.Fatalf("CI does not merge it:\n%s", said)
	}
	merged := time.Since(began)
	s.eventually("the first allowed statement", promised, func() error {
		if r := s.psqlAs("reports-db", "select count(*) from app.orders"); r.code != 0 || r.stdout != "3\n" {
			return errors.New(r.all())
		}
		return nil
	})
	took := time.Since(began)
	s.Logf("challenge after %v, asked %v, merged by CI %v, first allowed statement %v", challenged.Round(time.Millisecond), asked.Round(time.Millisecond), merged.Round(time.Millisecond), took.Round(time.Millisecond))
	if took > promised {
		s.Errorf("from the challenge to the first allowed statement it took %v, and %v is promised", took, promised)
	}
	if p := s.pull(pr); !p.Merged {
		s.Errorf("pull request %d is not merged", pr)
	}
	if r := s.psqlAs("reports-db", "select email from app.customers order by id limit 1"); r.code != 0 || clear(r.stdout) != "" {
		s.Errorf("a masked statement: %d %s", r.code, r.all())
	}
	if r := s.psqlAs("reports-db", "delete from app.orders"); r.code == 0 || !strings.Contains(r.stderr, "denial d-") {
		s.Errorf("a denied statement: %d %s", r.code, r.all())
	}
	// The branch of merged reviews is good as well, by the workflow's own lines, and so is what a person sees.
	s.do("carol", "git", "pull", "--quiet")
	if out := s.do("carol", "sallyport", "check", "--require-approved"); strings.Contains(out, "reports-db") && strings.Contains(out, "not approved") {
		s.Errorf("check of the merged branch: %s", out)
	}
}

// playNotAutomatic is what CI must not merge, although nothing is wrong with it or because somebody would like it to.
func (s *stage) playNotAutomatic() {
	refused := func(what string, pr int, why string) {
		s.Helper()
		if said := s.ci(pr); !strings.Contains(said, why) || strings.Contains(said, "merged pull request") || s.pull(pr).Merged {
			s.Errorf("%s: CI says\n%s", what, said)
		}
	}
	refused("high risk", s.request("alice", "orders-db", "high", "select:app.orders"), "not merged: reviews/orders-db/high.yaml needs the approval of people")
	refused("writes", s.request("alice", "reports-db", "writes", "update:app.orders:status"), "not merged: reviews/reports-db/writes.yaml needs the approval of people")

	commit := func(what string) {
		s.do("alice", "git", "add", "--all")
		s.do("alice", "git", "commit", "--quiet", "--message", what)
		s.do("alice", "git", "push", "--quiet")
	}
	pr := s.request("alice", "reports-db", "passenger", "select:app.orders")
	s.write("alice", "README.md", "# Trust me\n")
	commit("A file that nobody signs")
	s.headIs("alice", pr)
	refused("a file beside the review", pr, "not merged: it also changes README.md, which no auto_approve rule approves")

	// The rule that the pull request brings is not the one that judges it.
	pr = s.request("alice", "orders-db", "bootstrap", "select:app.orders")
	s.edit("alice", "policies/guardrails.rego", `input.connection.spec.risk == "low"`, `input.connection.spec.risk != ""`)
	commit("Approve everything")
	s.headIs("alice", pr)
	refused("its own rule", pr, "sync would close it")

	// A job whose token may only read merges nothing, and says so.
	pr = s.request("alice", "reports-db", "readonly", "select:app.orders")
	said, code := s.job(pr, "merge", s.token("read:repository"))
	if code == 0 || !strings.Contains(said, "token may not do this") || s.pull(pr).Merged {
		s.Errorf("with a token that may only read: %d %s", code, said)
	}
	// Neither does the forge's protection give way to it.
	s.call("root", "POST", repository+"branch_protections", map[string]any{"rule_name": "main", "enable_push": false, "required_approvals": 1}, nil)
	refused("a protected branch", pr, "not merged: merge pull request "+strconv.Itoa(pr)+": the forge does not let it be merged")
	s.call("root", "DELETE", repository+"branch_protections/main", nil, nil)
}

func numberIn(s *stage, out string) int {
	s.Helper()
	m := regexp.MustCompile(`the pull request: \S+/pulls/([0-9]+)\n`).FindStringSubmatch(out)
	if m == nil {
		s.Fatalf("no pull request was opened:\n%s", out)
	}
	n, err := strconv.Atoi(m[1])
	s.must(err)
	return n
}

// token is a new one of the job's account with these rights on repositories and no others.
func (s *stage) token(scopes ...string) string {
	s.Helper()
	account := s.people["job"].account
	var made struct {
		Token string `json:"sha1"`
	}
	s.must(s.gitea.Call(s.Context(), peers.GiteaUser{Name: account.Name, Password: account.Password}, "POST", "users/job/tokens",
		map[string]any{"name": fmt.Sprint(time.Now().UnixNano()), "scopes": scopes}, &made))
	return made.Token
}

// ci plays the forge's runner for a pull request: the jobs of the workflow that its head has, the second when the first passed.
func (s *stage) ci(pr int) (said string) {
	s.Helper()
	said, code := s.job(pr, "check", "")
	if code != 0 {
		s.status(pr, "failure")
		return said
	}
	s.status(pr, "success")
	more, code := s.job(pr, "merge", s.token("write:repository"))
	if code != 0 {
		s.Errorf("the job merge ends with %d:\n%s", code, more)
	}
	return said + more
}

// job runs the lines of one job as a runner does: in a fresh checkout of the head, with the variables of the forge and, where the workflow
// gives it to a step, the job's token. Installing sallyport is left out: it is the one that was built.
func (s *stage) job(pr int, name, token string) (said string, code int) {
	s.Helper()
	dir, err := os.MkdirTemp(s.dir, "runner-")
	s.must(err)
	for _, words := range [][]string{
		{"git", "clone", "--quiet", s.remote(), dir},
		{"git", "-C", dir, "fetch", "--quiet", "origin", fmt.Sprintf("refs/pull/%d/head", pr)},
		{"git", "-C", dir, "checkout", "--quiet", "--detach", "FETCH_HEAD"},
	} {
		s.do("job", words...)
	}
	text, err := os.ReadFile(filepath.Join(dir, ".gitea", "workflows", "sallyport.yml"))
	s.must(err)
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				Name, Run string
				Env       map[string]string
			}
		}
	}
	s.must(yaml.Unmarshal(text, &workflow))
	steps := 0
	for _, step := range workflow.Jobs[name].Steps {
		if step.Run == "" || step.Name == "Install sallyport" {
			continue
		}
		steps++
		cmd := exec.CommandContext(s.Context(), "bash", "-eo", "pipefail", "-c", step.Run)
		cmd.Dir = dir
		for _, entry := range s.people["job"].env {
			if !strings.HasPrefix(entry, "SALLYPORT_FORGE_TOKEN=") {
				cmd.Env = append(cmd.Env, entry)
			}
		}
		cmd.Env = append(cmd.Env, "CI=true", "GITHUB_ACTIONS=true", "GITHUB_EVENT_NAME=pull_request", "GITHUB_BASE_REF=main", "GITHUB_REF="+fmt.Sprintf("refs/pull/%d/head", pr))
		for key, value := range step.Env {
			cmd.Env = append(cmd.Env, key+"="+strings.ReplaceAll(value, "${{ github.token }}", token))
		}
		r := s.finish(cmd)
		said += r.all()
		if r.code != 0 {
			return said, r.code
		}
	}
	if steps == 0 {
		s.Fatalf("the workflow has no job %s:\n%s", name, text)
	}
	return said, 0
}

// playForcePush rewrites the branch. Sync says so, follows nothing, and sessions go on under the last release.
func (s *stage) playForcePush() {
	session := s.command(s.Context(), "etl", "sallyport", "connect", "reports-db", "--as", "agent:etl", "--key", s.path("home", "etl", "key"), "--repo", s.remote(), "--", "psql", "-At")
	in, err := session.StdinPipe()
	s.must(err)
	out, err := session.StdoutPipe()
	s.must(err)
	s.must(session.Start())
	lines := bufio.NewReader(out)
	answers := func(when string) {
		s.Helper()
		_, err := io.WriteString(in, "select count(*) from app.orders;\n")
		s.must(err)
		if got, err := lines.ReadString('\n'); err != nil || got != "3\n" {
			s.Fatalf("%s: the session answers %q, %v", when, got, err)
		}
	}
	answers("before")
	before, err := s.gateway()
	s.must(err)

	s.do("carol", "git", "switch", "--quiet", "main")
	s.do("carol", "git", "pull", "--quiet")
	s.do("carol", "git", "reset", "--quiet", "--hard", "HEAD~2")
	s.do("carol", "git", "commit", "--quiet", "--allow-empty", "--message", "Another history")
	began := time.Now()
	s.do("carol", "git", "push", "--quiet", "--force", "origin", "main")
	s.eventually("the alarm", time.Minute, func() error {
		r := s.run("robot", "sallyport", "status", "--state", s.path("sync-state"))
		if r.code != 1 || !strings.Contains(r.stdout, "ALARM rollback_detected: ") || !strings.Contains(r.stdout, "sallyport accept-rewind") {
			return errors.New(r.all())
		}
		return nil
	})
	s.Logf("the alarm came %v after the force push", time.Since(began).Round(time.Millisecond))
	if log := s.logOf("sync"); !strings.Contains(log, "rollback_detected") {
		s.Errorf("the log does not say it:\n%s", log)
	}
	answers("after the force push")
	if after, err := s.gateway(); err != nil || after.Release != before.Release {
		s.Errorf("the gateway went from release %+v to %+v, %v", before.Release, after.Release, err)
	}
	if r := s.psqlAs("reports-db", "select count(*) from app.orders"); r.code != 0 {
		s.Errorf("a new session under the last release: %s", r.all())
	}
	s.must(in.Close())
	s.must(session.Wait())
}
