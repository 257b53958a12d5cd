package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/internal/s3test"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// consoleScript is the console blocks of a page as one shell script: "$ " begins
// a command, "> " goes on with it, and everything else is output.
func consoleScript(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		for _, line := range strings.Split(block[1], "\n") {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				fmt.Fprintf(&script, "echo %s\n%s\n", "'$ '"+quote(command), command)
			} else if more, ok := strings.CutPrefix(line, "> "); ok {
				fmt.Fprintln(&script, more)
			}
		}
	}
	return script.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// The page's commands, run by a shell as a person would, on a real PostgreSQL.
func TestGettingStarted(t *testing.T) {
	server := peers.SharedPostgres(t)
	database := server.NewDatabase(t, `create schema app`,
		`create table app.customers (id int primary key, email text not null)`,
		`insert into app.customers values (1, 'ada.lovelace@example.com')`)
	const password = "canary-of-the-target"
	if err := server.CreateRole(t.Context(), "gateway_docs", password); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`grant usage on schema app to gateway_docs`, `grant all on all tables in schema app to gateway_docs`} {
		if err := server.Exec(t.Context(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	home, bin := t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../sallyport", "../gatewayd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := free.Addr().String()
	free.Close()
	script := "set -eu\ntrap 'kill %1 2>/dev/null; wait' EXIT\n" + strings.ReplaceAll(consoleScript(t, "../../docs/getting-started.md"), "127.0.0.1:6432", listen)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = filepath.Join(home, "work")
	if err := os.Mkdir(cmd.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(peers.CleanEnv(os.Environ(), home), "PATH="+bin+":"+os.Getenv("PATH"), "ORDERS_DB_PASSWORD="+password,
		fmt.Sprintf("TARGET=postgres://gateway_docs@127.0.0.1:%d/%s", server.Port, database))
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(cmd.Dir, "gatewayd.log"))
		t.Fatalf("%v\n%s\ngatewayd: %s", err, out, log)
	}
	for _, want := range []string{"a***@***", "denial d-", "confirmed by summaries on audit", "all approved"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not show %q:\n%s", want, out)
		}
	}
	for _, never := range []string{"ada.lovelace", password} {
		if strings.Contains(string(out), never) {
			t.Errorf("the output shows %q:\n%s", never, out)
		}
	}
}

// The page for reviewers, the same way. What it shows is what the page promises.
func TestReviewingPage(t *testing.T) {
	server := peers.SharedPostgres(t)
	database := server.NewDatabase(t, `create schema app`, `create table app.customers (id int primary key, email text not null)`)
	const password = "canary-of-the-page"
	if err := server.CreateRole(t.Context(), "gateway_reviewing", password); err != nil {
		t.Fatal(err)
	}
	home, bin := t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../sallyport").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	work := filepath.Join(home, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu\n"+consoleScript(t, "../../docs/reviewing.md"))
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = work
	cmd.Env = append(peers.CleanEnv(os.Environ(), home), "PATH="+bin+":"+os.Getenv("PATH"), "ORDERS_DB_PASSWORD="+password,
		fmt.Sprintf("TARGET=postgres://gateway_reviewing@127.0.0.1:%d/%s", server.Port, database))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"CI will pass:", "1 change waits for user:lab-reviewer", "+ newly allows: select on app.customers", "ok   allow: select * from app.customers",
		"signed 1 document as user:lab-reviewer, pushed to", "it has all approvals", "answers for:", "renewed on due/", "on branch renew/orders-db/etl/2",
		"with sequence 2", "as pinned", "# would write connections/shop.yaml",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not show %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), password) {
		t.Errorf("the output shows the password:\n%s", out)
	}
}

// The page for operators of sync, with the bucket of an S3 server.
func TestSyncPage(t *testing.T) {
	server := s3test.Start(t)
	home, bin := t.TempDir(), t.TempDir()
	self, err := os.Executable() // which is sallyport by that name: see TestMain
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "sallyport"))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", `set -eu
ssh-keygen -q -t ed25519 -N '' -f alice
sallyport init access --as user:alice --key alice --lab
mv "$XDG_CONFIG_HOME/sallyport/access" keys
cd access
TRUST=sha256:$(sha256sum < trust/root.yaml | cut -c1-64)
`+consoleScript(t, "../../docs/sync.md"))
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = home
	cmd.Env = append(peers.CleanEnv(os.Environ(), home), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "BUCKET="+server.Location("prod"))
	for name, value := range s3test.Env() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"published in s3://releases/prod", "brought ../extension.yaml with 1 signature to s3://releases/prod"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not show %q:\n%s", want, out)
		}
	}
}

// The decision page: its rule compiles, and its input gives its answer.
func TestDecisionPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/decision.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		m := regexp.MustCompile("(?s)```" + kind + "\n(.*?)```").FindSubmatch(page)
		if m == nil {
			t.Fatalf("the page has no %s block", kind)
		}
		return string(m[1])
	}
	policy, err := policies.Compile(t.Context(), map[string][]byte{"policies/hours.rego": []byte(block("rego"))})
	if err != nil {
		t.Fatal(err)
	}
	var in struct {
		Now        time.Time        `json:"now"`
		Principal  string           `json:"principal"`
		Connection map[string]any   `json:"connection"`
		Review     map[string]any   `json:"review"`
		Command    policies.Command `json:"command"`
	}
	if err := json.Unmarshal([]byte(block("json")), &in); err != nil {
		t.Fatal(err)
	}
	d, err := policy.Decide(t.Context(), policies.Input{
		Now: in.Now, Principal: in.Principal, Command: in.Command,
		Connection: policies.NewDocument(in.Connection), Review: policies.NewDocument(in.Review),
	})
	if err != nil || d.Verdict != policies.Allow || d.Rule != "allow[0]" {
		t.Errorf("the page's input gives %+v, %v", d, err)
	}
	in.Command.Effects[0].Verb = "drop"
	in.Command.Effects[0].Object = "app.orders"
	in.Command.Effects[0].Columns = nil
	d, err = policy.Decide(t.Context(), policies.Input{
		Now: in.Now, Principal: in.Principal, Command: in.Command,
		Connection: policies.NewDocument(in.Connection), Review: policies.NewDocument(in.Review),
	})
	if err != nil || !strings.Contains(string(page), `{"verdict": "deny", "rule": "`+d.Rule+`", "reason": "`+d.Reason+`"}`) {
		t.Errorf("the page's answer is not %+v, %v", d, err)
	}
}

// The automatic approval of the decision page approves what it says and nothing beside.
func TestAutomaticApprovalOnThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/decision.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```rego\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("the page has %d rego blocks", len(blocks))
	}
	policy, err := policies.Compile(t.Context(), map[string][]byte{"policies/auto.rego": []byte("package access\n\n" + string(blocks[1][1]))})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		risk, verb, on string
		unmask         []any
		want           int
	}{
		{"low", "select", "catalogue.items", nil, 1},
		{"high", "select", "catalogue.items", nil, 0},
		{"low", "delete", "catalogue.items", nil, 0},
		{"low", "select", "app.items", nil, 0},
		{"low", "select", "catalogue.items", []any{"catalogue.items.price"}, 0},
	} {
		spec := map[string]any{"allow": []any{map[string]any{"verbs": []any{tt.verb}, "on": []any{tt.on}}}}
		if tt.unmask != nil {
			spec["unmask"] = tt.unmask
		}
		got, err := policy.AutoApprove(t.Context(), policies.NewDocument(map[string]any{"spec": spec}),
			policies.NewDocument(map[string]any{"spec": map[string]any{"risk": tt.risk}}))
		if err != nil || len(got) != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

// The approval rules of the documents page are ones that the strict loader takes.
func TestApprovalRulesOnThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/documents.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no yaml block")
	}
	text := "apiVersion: sallyport.dev/v1\nkind: Config\nmetadata: {repo: 6f0c2f5e-8f0a-4f6e-9a43-0d3f6a1f8b11, name: sallyport}\nspec:\n  repository: https://git.example.org/acme/access.git\n  " +
		strings.ReplaceAll(strings.TrimSpace(string(m[1])), "\n", "\n  ") + "\n"
	if _, err := reviews.ParseConfig(reviews.ConfigPath, []byte(text)); err != nil {
		t.Error(err)
	}
}
