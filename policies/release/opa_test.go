package release_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/policies/release"
)

// stockOPA builds the opa command from the module that this program is built with,
// once for each version, into the user's cache. The first build takes a minute or two.
func stockOPA(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, "sallyport", "opa-"+opaVersion(t))
	binary := filepath.Join(folder, "opa")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.CreateTemp(folder, ".opa-*")
	if err != nil {
		t.Fatal(err)
	}
	fresh.Close()
	t.Logf("building the stock opa into %s (once)", folder)
	build := exec.Command("go", "build", "-o", fresh.Name(), "github.com/open-policy-agent/opa")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		os.Remove(fresh.Name())
		t.Fatalf("build the stock opa with \"go build github.com/open-policy-agent/opa\": %v\n%s", err, out)
	}
	if err := os.Rename(fresh.Name(), binary); err != nil {
		t.Fatal(err)
	}
	return binary
}

func opaVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/open-policy-agent/opa").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func opa(t *testing.T, args ...string) []byte {
	t.Helper()
	run := exec.Command(stockOPA(t), args...)
	run.Dir = t.TempDir()
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("opa %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// An auditor needs no program of ours to see what a release would decide.
func TestStockOPAInspectsAndEvaluates(t *testing.T) {
	r := newRepo(t)
	built := r.build(7)
	dir := t.TempDir()
	if err := release.Publish(dir, built, r.keys["release"]); err != nil {
		t.Fatal(err)
	}
	opened, err := r.open(dir)
	if err != nil {
		t.Fatal(err)
	}
	policy, connection := bundlePath(dir, built, release.PolicyBundle), bundlePath(dir, built, release.ConnectionBundle("orders-db"))
	for bundle, root := range map[string]string{policy: "sallyport/trust", connection: "sallyport/connections/orders-db"} {
		if out := string(opa(t, "inspect", bundle)); !strings.Contains(out, root) {
			t.Errorf("opa inspect does not show root %s:\n%s", root, out)
		}
	}
	c := opened.Connections["orders-db"]
	review := c.Review("orders-db/etl-nightly")
	commands := []policies.Command{
		{},
		{Effects: []policies.Effect{{Verb: "select", Object: "app.orders", Columns: []string{"id"}}}},
		{Effects: []policies.Effect{{Verb: "update", Object: "app.orders", Columns: []string{"status"}}, {Verb: "select", Object: "app.orders"}}},
		{Effects: []policies.Effect{{Verb: "update", Object: "app.orders", Columns: []string{"total"}}}},
		{Effects: []policies.Effect{{Verb: "truncate", Object: "app.orders"}}},
		{Effects: []policies.Effect{{Verb: "drop", Object: "app.orders"}}},
		{Effects: []policies.Effect{{Verb: "delete", Object: "app.orders"}}},
		{Refusal: &policies.Refusal{Rule: "unsupported_statement", Reason: "no DO blocks"}},
	}
	verdicts := map[policies.Verdict]bool{}
	for _, command := range commands {
		command.Protocol, command.Statement = "postgres", "…"
		in := policies.Input{Now: now, Principal: "agent:etl", Connection: c.JSON, Review: review.JSON, Command: command}
		want, err := opened.Policy.Decide(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		verdicts[want.Verdict] = true
		if want.Rule == "policies/hours.rego" {
			want.Rule = "access.deny" // the file is known to Decide only
		}
		if got := stockDecision(t, policy, connection, in); got != want {
			t.Errorf("%+v:\nopa    %+v\nDecide %+v", command, got, want)
		}
	}
	if len(verdicts) != 3 {
		t.Errorf("the cases reach only %v", verdicts)
	}
}

func stockDecision(t *testing.T, policy, connection string, in policies.Input) policies.Decision {
	t.Helper()
	name := filepath.Join(t.TempDir(), "input.json")
	if err := os.WriteFile(name, mustJSON(t, in), 0o644); err != nil {
		t.Fatal(err)
	}
	out := opa(t, "eval", "--format", "raw", "-b", policy, "-b", connection, "-i", name, "data.sallyport.decision")
	var d policies.Decision
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return d
}
