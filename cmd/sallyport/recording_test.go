package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/policies"
	"github.com/sallyport-dev/sallyport/reviews"
)

// recordCommand records one session and one refused login as gateway gw1 does:
// record DIR KEY REPO, under the review orders-db/etl that is merged in REPO.
// The session's summary goes to summary.json beside the script.
func recordCommand(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	signer, err := ssh.ParsePrivateKey(b)
	ts.Check(err)
	sign := func(m []byte) ([]byte, error) { return reviews.Sign(signer, reviews.NamespaceCheckpoint, m) }
	journal, err := record.Open(record.Options{Dir: ts.MkAbs(args[0]), Gateway: "gw1", Sign: sign, Durability: "process"})
	ts.Check(err)
	begin := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	git := &workTree{dir: ts.MkAbs(args[2])}
	commit, err := git.git(context.Background(), "rev-parse", "main")
	ts.Check(err)
	review, _ := git.blob(context.Background(), commit, "reviews/orders-db/etl.yaml")
	sum := sha256.Sum256(review)
	session, err := journal.Begin(record.Header{
		Session: "s-0123456789abcdef", Gateway: "gw1", Protocol: "postgres", Principal: "agent:etl", Connection: "orders-db",
		Remote: "127.0.0.1:40000", Review: "orders-db/etl", Approvers: []string{"user:lab-reviewer"}, Release: 7, Started: begin,
		ReviewSHA256: hex.EncodeToString(sum[:]), ReviewCommit: commit, ReleaseCommit: commit,
		Masks: []string{"app.customers.email with email"},
	})
	ts.Check(err)
	n, err := session.Command(record.Command{
		Statement: "select email from app.customers", Verdict: policies.Allow, Rule: "allow[0]", ReviewSHA256: hex.EncodeToString(sum[:]),
		Effects: []policies.Effect{{Verb: "select", Object: "app.customers"}}, Sent: "select email from (select …) customers",
	})
	ts.Check(err)
	_, _, err = session.Output(n, "rows", []byte("a***@example.com\n\x1b[2Jtricky\n"))
	ts.Check(err)
	ts.Check(session.Result(n, record.Result{Outcome: "done", Tag: "SELECT 2", Rows: 2, Bytes: 42}))
	_, err = session.Command(record.Command{
		Statement: "drop table app.orders", Verdict: policies.Deny, Rule: "default", Reason: "drop on app.orders is not allowed", Denial: "d-12345678",
		Effects: []policies.Effect{{Verb: "drop", Object: "app.orders"}},
	})
	ts.Check(err)
	summary, err := session.Close("closed")
	ts.Check(err)
	_, err = journal.Denied(record.Summary{
		APIVersion: "sallyport.dev/v1", Kind: "AuditSummary", Session: "a-0123456789abcdef", Gateway: "gw1", Protocol: "postgres",
		Principal: "agent:mallory", Connection: "orders-db", Remote: "127.0.0.1:40001", Started: time.Now(), Ended: time.Now(), End: "denied", Denied: 1,
		Denials: []record.Denial{{ID: "d-87654321", Time: begin, Rule: "review_missing", Reason: "no review lets agent:mallory use orders-db"}},
	})
	ts.Check(err)
	ts.Check(journal.Close())
	text, err := json.Marshal(summary)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("summary.json"), text, 0o644))
	ts.Setenv("SUMMARY", summary.Path())
	ts.Setenv("RECORDING", filepath.Join(ts.MkAbs(args[0]), "recordings", filepath.FromSlash(summary.Recording)))
}
