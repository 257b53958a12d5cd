package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/reviews"
)

// The documents of docs/ssh.md are good, and their examples come out as they say.
func TestSSHPage(t *testing.T) { pageOfProtocol(t, "../../docs/ssh.md", "web-1", "web-1/deploys", 4) }

// Those of docs/kubernetes.md, too.
func TestKubernetesPage(t *testing.T) {
	pageOfProtocol(t, "../../docs/kubernetes.md", "prod", "prod/web", 6)
}

func pageOfProtocol(t *testing.T, file, connection, review string, examples int) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	specs := map[string]string{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n# (\\S+)\nspec:\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		specs[block[1]] = "\n" + strings.ReplaceAll(block[2], "ssh-ed25519 AAAA…", accesstest.PublicKey("host"))
	}
	repo := accesstest.New(t, time.Now().Truncate(time.Second))
	repo.Write("connections/"+connection+".yaml", reviews.KindConnection, "Connection", connection, specs["connections/"+connection+".yaml"])
	repo.Review(review, 1, "agent:etl", specs["reviews/"+review+".yaml"])
	report, err := ci.Test(t.Context(), repo.Files, ci.Options{Now: repo.Now, Classifiers: classifiers()})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) > 0 || len(report.Outcomes) != examples {
		t.Errorf("%d examples ran; %+v", len(report.Outcomes), report.Findings)
	}
	checked, err := ci.Check(t.Context(), repo.Files, ci.Options{Now: repo.Now, RequireApproved: true, Classifiers: classifiers()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range checked.Findings {
		t.Errorf("%+v", f)
	}
}
