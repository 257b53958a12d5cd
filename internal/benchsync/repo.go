package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/internal/peers"
	"github.com/sallyport-dev/sallyport/reviews"
)

// repo is a bare access repo with many signed reviews.
type repo struct {
	dir         string
	git         *peers.Tool
	now         time.Time
	connections int
	commits     int
}

// makeRepo imports size reviews, batch of them to a commit, spread evenly over the connections.
func makeRepo(ctx context.Context, dir string, size, connections, batch int) (*repo, error) {
	git, err := peers.Git(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	r := &repo{dir: dir, git: git, now: time.Now().UTC().Truncate(time.Second), connections: connections}
	if out, err := git.Run(ctx, "", "init", "--quiet", "--bare", dir); err != nil {
		return nil, errors.Join(err, errors.New(out))
	}
	err = r.commit(ctx, func(c *commit) {
		c.file(".gitattributes", []byte("* -text\n"))
		for name, doc := range foundation() {
			c.document(name, doc)
		}
		for i := range connections {
			name := connectionName(i)
			c.document(reviews.PathOf(reviews.KindConnection, name), document("Connection", name, connectionSpec))
		}
	})
	for from := 0; from < size && err == nil; from += batch {
		err = r.commit(ctx, func(c *commit) {
			for i := from; i < min(from+batch, size); i++ {
				c.document(r.review(i, 1))
			}
		})
	}
	return r, err
}

// change gives the reviews from one on a new sequence, all in one commit.
func (r *repo) change(ctx context.Context, from, count, sequence int) error {
	return r.commit(ctx, func(c *commit) {
		for i := from; i < from+count; i++ {
			c.document(r.review(i, sequence))
		}
	})
}

func connectionName(i int) string { return fmt.Sprintf("db-%d", i) }

// pin is the sha256 of the trust root.
func pin() string {
	sum := sha256.Sum256(foundation()[reviews.RootPath])
	return hex.EncodeToString(sum[:])
}

// foundation are all documents but connections and reviews.
func foundation() map[string][]byte {
	key := accesstest.PublicKey
	return map[string][]byte{
		reviews.RootPath: document("TrustRoot", "root", `
  version: 1
  threshold: 1
  principals:
    - {name: "user:alice", keys: [{key: "`+key("user:alice")+`"}]}
    - {name: "user:bob", keys: [{key: "`+key("user:bob")+`"}]}
  groups: {root: ["user:bob"], reviewers: ["user:bob"]}
  release: [{key: "`+key("release")+`"}]
  gateways: [{name: gw1, key: "`+key("gw1")+`"}]
`),
		reviews.ConfigPath: document("Config", "sallyport", `
  repository: https://git.example.com/access.git
  approvals:
    - {match: {kinds: [Principal, Connection, AccessReview, Policy]}, mode: signature, threshold: 1, groups: [reviewers]}
`),
		reviews.PathOf(reviews.KindPrincipal, subject): document("Principal", subject, `
  owner: user:alice
  keys: [{key: "`+key(subject)+`"}]
`),
	}
}

const (
	subject        = "agent:etl"
	connectionSpec = `
  protocol: postgres
  target: {host: db.internal, port: 5432, database: app, user: gateway}
  credential: "env:ORDERS_DB_PASSWORD"
  mask: [{column: app.customers.email, with: email}]
`
	table     = "app.orders"
	statement = "select id, status from " + table + " where id = 1"
)

func document(kind, name, spec string) []byte {
	return fmt.Appendf(nil, "apiVersion: sallyport.dev/v1\nkind: %s\nmetadata: {repo: %s, name: %q}\nspec:%s", kind, accesstest.RepoID, name, spec)
}

func (r *repo) reviewName(i int) string {
	return fmt.Sprintf("%s/etl-%06d", connectionName(i%r.connections), i)
}

func (r *repo) review(i, sequence int) (path string, doc []byte) {
	name := r.reviewName(i)
	stamp := func(d time.Duration) string { return r.now.Add(d).Format(time.RFC3339) }
	return reviews.PathOf(reviews.KindReview, name), document("AccessReview", name, fmt.Sprintf(`
  sequence: %d
  requester: user:alice
  subject: %s
  connection: %s
  allow:
    - {verbs: [select], on: [%s, app.customers]}
    - {verbs: [update], on: [%s], columns: [status]}
  limits: {session: 30m, rows: 100000}
  validity: {notBefore: %q, expires: %q}
  justification: {ticket: OPS-%d, reason: nightly order export}
`, sequence, subject, connectionName(i%r.connections), table, table, stamp(-24*time.Hour), stamp(60*24*time.Hour), i))
}

// commit is one on its way into git fast-import.
type commit struct {
	w   *bufio.Writer
	bob ssh.Signer
	err error
}

func (c *commit) file(name string, b []byte) {
	fmt.Fprintf(c.w, "M 100644 inline %s\ndata %d\n%s\n", name, len(b), b)
}

// document adds a file with bob's signature.
func (c *commit) document(path string, b []byte) {
	c.file(path, b)
	armored, err := reviews.Sign(c.bob, reviews.NamespaceFor(reviews.KindOf(path)), b)
	c.err = errors.Join(c.err, err)
	c.file(reviews.SidecarPath(path, "user:bob", c.bob.PublicKey()), armored)
}

func (r *repo) commit(ctx context.Context, fill func(*commit)) error {
	run := exec.CommandContext(ctx, r.git.Path, "fast-import", "--quiet")
	run.Env, run.Dir = r.git.Env, r.dir
	var problems bytes.Buffer
	run.Stderr = &problems
	in, err := run.StdinPipe()
	if err != nil {
		return err
	}
	if err := run.Start(); err != nil {
		return err
	}
	c := &commit{w: bufio.NewWriter(in), bob: accesstest.Signer("user:bob")}
	r.commits++
	fmt.Fprintf(c.w, "commit refs/heads/main\ncommitter bench <bench@example.com> %d +0000\ndata 1\nx\n", r.now.Unix()+int64(r.commits))
	if r.commits > 1 {
		fmt.Fprint(c.w, "from refs/heads/main^0\n")
	}
	fill(c)
	if err := errors.Join(c.err, c.w.Flush(), in.Close(), run.Wait()); err != nil {
		return fmt.Errorf("git fast-import: %w: %s", err, problems.String())
	}
	return nil
}

// forOPA writes each review to a folder of its own, where opa build looks for data.
func (r *repo) forOPA(dir string, size int) error {
	for i := range size {
		path, doc := r.review(i, 1)
		folder := filepath.Join(dir, path)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "data.yaml"), doc, 0o644); err != nil {
			return err
		}
	}
	return nil
}
