package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/internal/accesstest"
	"github.com/sallyport-dev/sallyport/reviews"
)

// history is one thing that happens to the branch, and what is granted afterwards.
type history struct {
	name string
	play func(s *siege)
	want string
}

// branch commits what change makes of the access repo on a branch of its own, in as many commits, and returns to main.
func (s *siege) branch(name string, changes ...func()) {
	s.Helper()
	s.git("checkout", "--quiet", "-B", name)
	for _, change := range changes {
		change()
		s.merge(name)
	}
	s.git("checkout", "--quiet", "main")
}

// validHistories are merged one after the other; each goes on from where the one before ended.
func validHistories() []history {
	again := func(name string, sequence int, by ...string) func(s *siege) {
		return func(s *siege) { s.review(name, sequence, "select", by...); s.merge(name) }
	}
	return []history{
		{"renewed", again("orders-db/etl", 2, "user:bob"), "orders-db/etl#2"},
		{"renewed by another reviewer", again("orders-db/etl", 3, "user:carol"), "orders-db/etl#3"},
		{"sequences left out", again("orders-db/etl", 9, "user:carol"), "orders-db/etl#9"},
		{"a merge commit", func(s *siege) {
			s.branch("topic", func() { s.review("orders-db/a", 1, "select", "user:bob") })
			s.git("merge", "--quiet", "--no-ff", "--no-edit", "topic")
		}, "orders-db/a#1 orders-db/etl#9"},
		{"a merge of two lines that both moved", func(s *siege) {
			s.branch("topic", func() { s.review("orders-db/b", 1, "select", "user:bob") })
			s.git("commit", "--quiet", "--allow-empty", "--message", "meanwhile")
			s.git("merge", "--quiet", "--no-ff", "--no-edit", "topic")
		}, "orders-db/a#1 orders-db/b#1 orders-db/etl#9"},
		{"a squash of three commits", func(s *siege) {
			s.branch("topic", func() { s.review("orders-db/c", 1, "select") }, func() { s.review("orders-db/c", 1, "select, update") }, func() { s.review("orders-db/c", 1, "select", "user:bob") })
			s.git("merge", "--quiet", "--squash", "topic")
			s.git("commit", "--quiet", "--message", "squashed")
		}, "orders-db/a#1 orders-db/b#1 orders-db/c#1 orders-db/etl#9"},
		{"a rebase", func(s *siege) {
			s.branch("topic", func() { s.review("orders-db/d", 1, "select", "user:bob") }, func() { s.review("orders-db/d", 2, "select", "user:bob") })
			s.git("commit", "--quiet", "--allow-empty", "--message", "meanwhile")
			s.git("rebase", "--quiet", "main", "topic")
			s.git("checkout", "--quiet", "main")
			s.git("merge", "--quiet", "--ff-only", "topic")
		}, "orders-db/a#1 orders-db/b#1 orders-db/c#1 orders-db/d#2 orders-db/etl#9"},
		{"an octopus", func(s *siege) {
			for _, name := range []string{"e", "f"} {
				s.branch(name, func() { s.review("orders-db/"+name, 1, "select", "user:bob") })
				s.access.Remove("reviews/orders-db/" + name + ".yaml")
			}
			s.git("commit", "--quiet", "--allow-empty", "--message", "meanwhile")
			s.git("merge", "--quiet", "--no-edit", "e", "f")
			s.review("orders-db/e", 1, "select", "user:bob")
			s.review("orders-db/f", 1, "select", "user:bob")
		}, "orders-db/a#1 orders-db/b#1 orders-db/c#1 orders-db/d#2 orders-db/e#1 orders-db/etl#9 orders-db/f#1"},
		{"many taken out", func(s *siege) {
			for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
				s.access.Remove("reviews/orders-db/" + name + ".yaml")
			}
			s.merge("fewer")
		}, "orders-db/etl#9"},
		{"signed in a commit of its own", func(s *siege) {
			path := s.review("orders-db/g", 1, "select")
			s.merge("asked")
			s.sign(path, reviews.NamespaceReview, "user:bob")
			s.merge("signed")
		}, "orders-db/etl#9 orders-db/g#1"},
		{"one more signature", func(s *siege) {
			s.sign("reviews/orders-db/g.yaml", reviews.NamespaceReview, "user:carol")
			s.merge("signed again")
		}, "orders-db/etl#9 orders-db/g#1"},
		{"the first signature taken back", func(s *siege) {
			delete(s.access.Files, reviews.SidecarPath("reviews/orders-db/g.yaml", "user:bob", accesstest.Signer("user:bob").PublicKey()))
			s.merge("carol's is enough")
		}, "orders-db/etl#9 orders-db/g#1"},
		{"two people for prod", again("prod-db/etl", 1, "user:bob", "user:carol"), "orders-db/etl#9 orders-db/g#1 prod-db/etl#1"},
		{"two people for prod, one after the other", func(s *siege) {
			path := s.review("prod-db/etl", 2, "select", "user:bob")
			s.merge("first")
			s.granted("orders-db/etl#9 orders-db/g#1")
			s.sign(path, reviews.NamespaceReview, "user:carol")
			s.merge("second")
		}, "orders-db/etl#9 orders-db/g#1 prod-db/etl#2"},
		{"deleted", func(s *siege) { s.access.Remove("reviews/prod-db/etl.yaml"); s.merge("gone") }, "orders-db/etl#9 orders-db/g#1"},
		{"back with the next sequence", again("prod-db/etl", 3, "user:bob", "user:carol"), "orders-db/etl#9 orders-db/g#1 prod-db/etl#3"},
		{"a widening, and its revert with the next sequence", func(s *siege) {
			s.review("orders-db/g", 2, "select, delete", "user:bob")
			s.merge("wider")
			s.review("orders-db/g", 3, "select", "user:bob")
			s.merge("back")
		}, "orders-db/etl#9 orders-db/g#3 prod-db/etl#3"},
		{"moved to another name", func(s *siege) {
			s.access.Remove("reviews/orders-db/g.yaml")
			s.review("orders-db/h", 1, "select", "user:bob")
			s.merge("moved")
		}, "orders-db/etl#9 orders-db/h#1 prod-db/etl#3"},
		{"asked for by a new person", func(s *siege) {
			s.put("principals/user_zoe.yaml", reviews.KindPrincipal, "user:zoe", "\n  keys: [{key: \""+accesstest.PublicKey("user:zoe")+"\"}]\n", "user:bob")
			s.merge("zoe")
			s.put("reviews/orders-db/h.yaml", reviews.KindReview, "orders-db/h", strings.Replace(s.reviewSpec("orders-db/h", 2, "select"), "user:alice", "user:zoe", 1), "user:bob")
			s.merge("zoe's")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"the agent's key replaced", func(s *siege) {
			s.put("principals/agent_etl.yaml", reviews.KindPrincipal, "agent:etl", "\n  owner: user:alice\n  keys: [{key: \""+accesstest.PublicKey("agent:etl")+"\"}, {key: \""+accesstest.PublicKey("agent:etl 2")+"\"}]\n", "user:carol")
			s.merge("two keys")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"a mask more", func(s *siege) {
			s.put("connections/orders-db.yaml", reviews.KindConnection, "orders-db", "\n  protocol: postgres\n  target: {host: db.internal, database: app, user: gateway}\n  credential: env:X\n  mask: [{column: app.customers.email, with: email}]\n", "user:bob")
			s.merge("masked")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"a mask less, approved", func(s *siege) {
			s.put("connections/orders-db.yaml", reviews.KindConnection, "orders-db", "\n  # no customers here any more\n  protocol: postgres\n  target: {host: db.internal, database: app, user: gateway}\n  credential: env:X\n", "user:bob")
			s.merge("unmasked")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"a stricter policy", func(s *siege) {
			s.policy(siegeRules+"\ndeny contains \"no locks\" if input.command.effects[_].verb == \"lock\"\n", "user:bob", "user:dan")
			s.merge("stricter")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"other settings", func(s *siege) {
			s.put(reviews.ConfigPath, reviews.KindConfig, "sallyport", s.config(1)+"  freshness: {validFor: 12h}\n", "user:carol", "user:dan")
			s.merge("settings")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"the next trust root, with a delegation and bob's second key", func(s *siege) {
			bobs := fmt.Sprintf("keys: [{key: %q}]", accesstest.PublicKey("user:bob"))
			more := fmt.Sprintf("keys: [{key: %q}, {key: %q, notBefore: \"2026-01-01T00:00:00Z\"}]", accesstest.PublicKey("user:bob"), accesstest.PublicKey("bob's token"))
			s.put(reviews.RootPath, reviews.KindRoot, "root", strings.Replace(siegeRoot(2, "  delegations: [{principals: \"agent:team-*\", group: security}]\n"), bobs, more, 1), "user:bob", "user:dan")
			s.merge("root 2")
		}, "orders-db/etl#9 orders-db/h#2 prod-db/etl#3"},
		{"signed with the second key", func(s *siege) {
			s.signFor(s.review("orders-db/h", 3, "select"), reviews.NamespaceReview, "bob's token", "user:bob")
			s.merge("second key")
		}, "orders-db/etl#9 orders-db/h#3 prod-db/etl#3"},
		{"a delegated agent with its first review", func(s *siege) {
			s.put("principals/agent_team-x.yaml", reviews.KindPrincipal, "agent:team-x", "\n  owner: user:alice\n  keys: [{key: \""+accesstest.PublicKey("agent:team-x")+"\"}]\n", "user:dan")
			s.put("reviews/orders-db/team.yaml", reviews.KindReview, "orders-db/team", strings.Replace(s.reviewSpec("orders-db/team", 1, "select"), "agent:etl", "agent:team-x", 1), "user:bob")
			s.merge("delegated")
			r := s.granted("orders-db/etl#9 orders-db/h#3 prod-db/etl#3")
			if opened, err := s.open(false); err != nil || len(opened.Connections["orders-db"].Candidates("agent:team-x")) != 1 {
				s.Errorf("the delegated agent has no review: %v\n%v", err, r.Problems)
			}
		}, "orders-db/etl#9 orders-db/h#3 prod-db/etl#3"},
		{"a third root", func(s *siege) {
			s.put(reviews.RootPath, reviews.KindRoot, "root", strings.Replace(string(s.spec(reviews.RootPath)), "version: 2", "version: 3", 1), "user:carol", "user:dan")
			s.merge("root 3")
		}, "orders-db/etl#9 orders-db/h#3 prod-db/etl#3"},
		{"thirty commits at once", func(s *siege) {
			for i := range 30 {
				s.review("orders-db/h", 4+i, "select", "user:bob")
				s.merge("more")
			}
		}, "orders-db/etl#9 orders-db/h#33 prod-db/etl#3"},
		{"what the access repo does not own", func(s *siege) {
			for name, text := range map[string]string{
				"README.md": "# hello\r\n", "docs/notes.txt": "\ufeffnotes\x00", ".github/workflows/x.yml": "on: [push, &a]\n", "scripts/run.sh": "#!/bin/sh\n", "big.bin": strings.Repeat("x", 5<<20),
				"docs/Ä ö.md": "x", "docs/pointer": "version https://git-lfs.github.com/spec/v1\n", "CODEOWNERS": "* @acme/security\n",
			} {
				s.access.Files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			s.merge("others")
			s.must(os.Symlink("../README.md", filepath.Join(s.dir, "docs/link")))
			s.must(os.Chmod(filepath.Join(s.dir, "scripts/run.sh"), 0o755))
			s.git("add", "--all")
			s.git("commit", "--quiet", "--message", "a link and a script")
		}, "orders-db/etl#9 orders-db/h#33 prod-db/etl#3"},
		{"a commit by the forge, dated otherwise", func(s *siege) {
			s.review("orders-db/h", 40, "select", "user:bob")
			s.git("checkout", "--quiet", "main")
			s.Setenv("GIT_COMMITTER_NAME", "GitHub")
			s.Setenv("GIT_AUTHOR_DATE", "2020-01-01T00:00:00Z")
			s.Setenv("GIT_COMMITTER_DATE", "2037-01-01T00:00:00Z")
			s.merge("from the future")
		}, "orders-db/etl#9 orders-db/h#40 prod-db/etl#3"},
		{"a branch of before a rotation, merged behind it", func(s *siege) {
			before := s.git("rev-parse", "HEAD")
			s.put(reviews.RootPath, reviews.KindRoot, "root", strings.Replace(string(s.spec(reviews.RootPath)), "version: 3", "version: 4", 1), "user:carol", "user:dan")
			s.merge("root 4")
			after := maps.Clone(s.access.Files)
			s.git("checkout", "--quiet", "-B", "late", before)
			s.review("orders-db/late", 1, "select", "user:bob")
			path := "reviews/orders-db/late.yaml"
			for name, f := range s.access.Files {
				if strings.HasPrefix(name, path) {
					after[name] = f
					s.must(os.MkdirAll(filepath.Dir(filepath.Join(s.dir, name)), 0o755))
					s.must(os.WriteFile(filepath.Join(s.dir, name), f.Data, 0o644))
				}
			}
			s.access.Files = after
			s.git("add", "--all")
			s.git("commit", "--quiet", "--message", "late")
			s.git("checkout", "--quiet", "main")
			s.git("merge", "--quiet", "--no-ff", "--no-edit", "late")
		}, "orders-db/etl#9 orders-db/h#40 orders-db/late#1 prod-db/etl#3"},
		{"an extra line break at the end of a comment", func(s *siege) {
			s.put("reviews/orders-db/late.yaml", reviews.KindReview, "orders-db/late", s.reviewSpec("orders-db/late", 2, "select")+"# für später – 夜\n\n", "user:carol")
			s.merge("unicode")
		}, "orders-db/etl#9 orders-db/h#40 orders-db/late#2 prod-db/etl#3"},
	}
}

// spec is a document without its header.
func (s *siege) spec(path string) []byte {
	_, spec, _ := bytes.Cut(s.access.Files[path].Data, []byte("\nspec:"))
	return spec
}

// No history that is in order is refused, taken in as it comes or from an empty state.
func TestValidHistories(t *testing.T) {
	s := newSiege(t)
	for _, h := range validHistories() {
		h.play(s)
		r := s.granted(h.want)
		if r.Broken != "" || len(r.Problems) > 0 || len(r.Pending) > 0 {
			t.Errorf("%s: broken %q, pending %v, problems %v", h.name, r.Broken, r.Pending, r.Problems)
		}
		if t.Failed() {
			t.Fatalf("in history %q", h.name)
		}
	}
	if len(validHistories()) < 30 {
		t.Error("histories are missing")
	}
	want := validHistories()[len(validHistories())-1].want
	s.must(s.sync.Close())
	s.must(os.RemoveAll(s.options.StateDir))
	s.must(os.RemoveAll(s.out))
	s.must(os.Remove(s.mark))
	s.startSync()
	s.granted(want)
}

// hostileHistories each end with what sync has to say, and with what stays granted.
func hostileHistories() map[string]struct {
	play       func(s *siege)
	want, says string
} {
	type row = struct {
		play       func(s *siege)
		want, says string
	}
	const etl = "orders-db/etl#1"
	own := func(s *siege) { s.review("orders-db/own", 1, "select, delete", "user:dan"); s.merge("own") }
	root := func(s *siege, version int, change [2]string, by ...string) {
		s.put(reviews.RootPath, reviews.KindRoot, "root", strings.Replace(siegeRoot(version, ""), change[0], change[1], 1), by...)
		s.merge(fmt.Sprintf("root %d", version))
	}
	dan := [2]string{`reviewers: ["user:bob"`, `reviewers: ["user:dan", "user:bob"`}
	config := func(s *siege, text string, by ...string) {
		s.put(reviews.ConfigPath, reviews.KindConfig, "sallyport", text, by...)
		s.merge("config")
	}
	return map[string]row{
		"a root by one, then a root by those that it names": {func(s *siege) {
			root(s, 2, [2]string{`root: ["user:bob", "user:carol", "user:dan"]`, `root: ["user:alice", "user:dan"]`}, "user:dan")
			root(s, 3, [2]string{`root: ["user:bob", "user:carol", "user:dan"]`, `root: ["user:alice", "user:dan"]`}, "user:alice", "user:dan")
			own(s)
		}, etl, "version 3 does not follow 1"},
		"two rotations in one merge": {func(s *siege) {
			s.branch("rotate", func() {
				s.put(reviews.RootPath, reviews.KindRoot, "root", siegeRoot(2, ""), "user:bob", "user:carol")
			}, func() {
				s.put(reviews.RootPath, reviews.KindRoot, "root", siegeRoot(3, ""), "user:bob", "user:carol")
			})
			s.git("merge", "--quiet", "--no-ff", "--no-edit", "rotate")
		}, etl, "version 3 does not follow 1"},
		"a weaker root for one commit": {func(s *siege) {
			root(s, 2, dan, "user:dan")
			own(s)
			root(s, 1, [2]string{}, "user:bob", "user:carol")
		}, etl, "orders-db/own.yaml"},
		"weaker settings for one commit": {func(s *siege) {
			config(s, strings.Replace(s.config(1), "connections: [orders-db]}, mode: signature, threshold: 1, groups: [reviewers]", "connections: [orders-db]}, mode: signature, threshold: 1, groups: [security]", 1))
			own(s)
			config(s, s.config(1), "user:bob", "user:dan")
		}, etl, "orders-db/own.yaml"},
		"weaker settings by one, and a review": {func(s *siege) {
			config(s, strings.Replace(s.config(1), "groups: [reviewers]", "groups: [reviewers, security]", 3), "user:dan")
			own(s)
		}, etl, "sallyport.yaml: not approved"},
		"a merge that holds what neither side held": {func(s *siege) {
			s.branch("topic", func() { s.review("orders-db/a", 1, "select", "user:bob") })
			s.git("merge", "--quiet", "--no-ff", "--no-commit", "topic")
			s.review("orders-db/a", 1, "select, delete")
			s.must(os.WriteFile(filepath.Join(s.dir, "reviews/orders-db/a.yaml"), s.access.Files["reviews/orders-db/a.yaml"].Data, 0o644))
			s.git("add", "--all")
			s.git("commit", "--quiet", "--message", "evil")
		}, etl, "reviews/orders-db/a.yaml: not approved"},
		"an old branch brings an old version back": {func(s *siege) {
			s.branch("old", func() { s.review("orders-db/etl", 2, "select, delete", "user:bob") })
			s.git("merge", "--quiet", "--no-ff", "--no-edit", "old")
			s.granted("orders-db/etl#2")
			s.review("orders-db/etl", 3, "select", "user:bob")
			s.merge("narrowed")
			s.granted("orders-db/etl#3")
			s.git("rm", "-r", "--quiet", siegeReview, siegeReview+".sigs")
			s.git("checkout", "old", "--", siegeReview, siegeReview+".sigs")
			s.git("commit", "--quiet", "--message", "merged wrongly")
		}, "", "sequence 2 is lower than 3"},
		"a deletion reverted": {func(s *siege) {
			s.access.Remove(siegeReview)
			s.merge("gone")
			s.granted("")
			s.git("revert", "--no-edit", "HEAD")
		}, "", "sequence 1 was used before the review was deleted"},
		"a rotation reverted": {func(s *siege) {
			root(s, 2, [2]string{}, "user:bob", "user:carol")
			s.granted(etl)
			s.git("revert", "--no-edit", "HEAD")
		}, etl, "version 1 does not follow 2"},
		"a revocation reverted": {func(s *siege) {
			s.review("orders-db/carols", 1, "select", "user:carol")
			s.merge("carol's")
			root(s, 2, [2]string{"  release: [", fmt.Sprintf("  revoked: [{fingerprint: %q, reason: stolen}]\n  release: [", fingerprintOf("user:carol"))}, "user:bob", "user:dan")
			s.granted(etl)
			s.git("revert", "--no-edit", "HEAD")
		}, etl, "version 1 does not follow 2"},
		"a stricter policy reverted": {func(s *siege) {
			s.policy(siegeRules+"deny contains \"frozen\" if input.command.effects[_].verb == \"delete\"\n", "user:bob", "user:dan")
			s.merge("stricter")
			s.granted(etl)
			s.git("revert", "--no-edit", "HEAD")
		}, etl, "older version"},
		"a mask's revert": {func(s *siege) {
			s.put("connections/orders-db.yaml", reviews.KindConnection, "orders-db", "\n  protocol: postgres\n  target: {host: db.internal, database: app, user: gateway}\n  credential: env:X\n  mask: [{column: app.customers.email, with: email}]\n", "user:bob")
			s.merge("masked")
			s.granted(etl)
			s.git("revert", "--no-edit", "HEAD")
		}, "", "older version"},
		"moved with its signatures": {func(s *siege) {
			s.git("mv", siegeReview, "reviews/orders-db/moved.yaml")
			s.git("mv", siegeReview+".sigs", "reviews/orders-db/moved.yaml.sigs")
			s.git("commit", "--quiet", "--message", "moved")
		}, "", "moved.yaml"},
		"its signatures alone removed": {func(s *siege) {
			s.git("rm", "-r", "--quiet", siegeReview+".sigs")
			s.git("commit", "--quiet", "--message", "unsigned")
		}, "", "not approved"},
		"another's signatures": {func(s *siege) {
			s.review("orders-db/a", 1, "select", "user:bob")
			s.merge("a")
			s.git("rm", "-r", "--quiet", "reviews/orders-db/a.yaml.sigs")
			s.must(os.CopyFS(filepath.Join(s.dir, "reviews/orders-db/a.yaml.sigs"), os.DirFS(filepath.Join(s.dir, siegeReview+".sigs"))))
			s.git("add", "--all")
			s.git("commit", "--quiet", "--message", "swapped")
		}, etl, "reviews/orders-db/a.yaml: not approved"},
		"attributes that rewrite files": {func(s *siege) {
			s.must(os.WriteFile(filepath.Join(s.dir, ".gitattributes"), []byte("*.yaml text eol=crlf ident export-subst\n"), 0o644))
			s.git("add", ".gitattributes")
			s.git("commit", "--quiet", "--message", "attributes")
			s.must(os.WriteFile(filepath.Join(s.dir, siegeReview), []byte(strings.ReplaceAll(string(s.access.Files[siegeReview].Data), "\n", "\r\n")), 0o644))
			s.git("add", "--renormalize", ".")
			s.git("-c", "core.autocrlf=false", "commit", "--quiet", "--allow-empty", "--message", "rewritten")
		}, etl, ""},
		"a conflict committed": {func(s *siege) {
			text := string(s.access.Files[siegeReview].Data)
			s.must(os.WriteFile(filepath.Join(s.dir, siegeReview), []byte("<<<<<<< HEAD\n"+text+"=======\n"+text+">>>>>>> topic\n"), 0o644))
			s.git("commit", "--quiet", "--all", "--message", "oops")
		}, "", siegeReview},
		"everything taken out": {func(s *siege) {
			s.git("rm", "-r", "--quiet", ".")
			s.git("commit", "--quiet", "--message", "empty")
		}, "", "trust/root.yaml"},
		"trust taken out": {func(s *siege) {
			s.git("rm", "-r", "--quiet", "trust")
			s.git("commit", "--quiet", "--message", "no trust")
		}, etl, "trust/root.yaml"},
		"settings taken out": {func(s *siege) {
			s.git("rm", "-r", "--quiet", "sallyport.yaml", "sallyport.yaml.sigs")
			own(s)
			s.git("rm", "-r", "--quiet", "sallyport.yaml", "sallyport.yaml.sigs")
			s.git("commit", "--quiet", "--message", "no settings")
		}, etl, "sallyport.yaml"},
		"a sequence that leaves none": {func(s *siege) {
			s.put(siegeReview, reviews.KindReview, "orders-db/etl", strings.Replace(s.reviewSpec("orders-db/etl", 1, "select"), "sequence: 1", "sequence: 9007199254740993", 1), "user:bob")
			s.merge("all of them")
		}, "", "number is too large"},
	}
}

// Whatever is done to the branch: a sync that sees it as it comes, and one that sees all of it at once from an empty
// state, grant the same, and say why.
func TestHostileHistories(t *testing.T) {
	for name, h := range hostileHistories() {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			h.play(s)
			s.says(s.granted(h.want), h.says)
			s.must(s.sync.Close())
			dir := t.TempDir()
			s.options.StateDir, s.out, s.mark = filepath.Join(dir, "state"), filepath.Join(dir, "out"), filepath.Join(dir, "mark")
			s.options.OutDir = s.out
			s.startSync()
			s.says(s.granted(h.want), h.says)
		})
	}
}

// A branch that goes away, or that begins elsewhere, is followed nowhere.
func TestHostileBranches(t *testing.T) {
	for name, play := range map[string]func(s *siege){
		"deleted": func(s *siege) { s.git("checkout", "--quiet", "--detach"); s.git("branch", "--quiet", "-D", "main") },
		"merged the wrong way around": func(s *siege) {
			s.git("checkout", "--quiet", "-B", "topic", "main~1")
			s.git("commit", "--quiet", "--allow-empty", "--message", "topic")
			s.git("merge", "--quiet", "--no-edit", "main")
			s.git("branch", "--quiet", "--force", "main", "topic")
		},
		"amended": func(s *siege) { s.git("commit", "--quiet", "--amend", "--message", "amended") },
		"squashed into one": func(s *siege) {
			id := s.git("commit-tree", "main^{tree}", "-m", "all of it")
			s.git("checkout", "--quiet", "--detach")
			s.git("branch", "--quiet", "--force", "main", id)
		},
		"a tag in its place": func(s *siege) {
			s.git("tag", "-a", "-m", "x", "x")
			s.git("checkout", "--quiet", "--detach")
			s.must(os.WriteFile(filepath.Join(s.dir, ".git/refs/heads/main"), []byte(s.git("rev-parse", "refs/tags/x")+"\n"), 0o644))
		},
		"a tree in its place": func(s *siege) {
			s.git("checkout", "--quiet", "--detach")
			s.must(os.WriteFile(filepath.Join(s.dir, ".git/refs/heads/main"), []byte(s.git("rev-parse", "HEAD^{tree}")+"\n"), 0o644))
		},
		"another branch's name": func(s *siege) {
			s.git("checkout", "--quiet", "-b", "other", "main~1")
			s.git("commit", "--quiet", "--allow-empty", "--message", "other")
			s.git("symbolic-ref", "refs/heads/main", "refs/heads/other")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			s.review("orders-db/a", 1, "select", "user:bob")
			s.merge("a")
			s.granted("orders-db/a#1 orders-db/etl#1")
			play(s)
			s.now = s.now.Add(13 * time.Hour) // a release would be due
			r, err := s.sync.Once(t.Context())
			if err == nil || r.Published || len(r.Alarms) == 0 {
				t.Errorf("followed: %+v, %v", r, err)
			}
			if opened, err := s.open(false); err != nil || len(opened.Connections["orders-db"].Candidates("agent:etl")) != 2 {
				t.Errorf("the last release does not stay: %v", err)
			}
		})
	}
}
