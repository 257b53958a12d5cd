package syncer

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// input runs git with some input.
func (a *access) input(text string, args ...string) string {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), "git", append([]string{"-C", a.dir}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatal(args, err)
	}
	return strings.TrimSpace(string(out))
}

// bomb is a tree that stands for more files than fit anywhere: a name for each of so many folders, four times.
func (a *access) bomb(width int) string {
	a.t.Helper()
	level := a.input("100644 blob "+a.input("x", "hash-object", "-w", "--stdin")+"\tf\n", "mktree")
	for range 4 {
		var lines strings.Builder
		for i := range width {
			fmt.Fprintf(&lines, "040000 tree %s\td%04d\n", level, i)
		}
		level = a.input(lines.String(), "mktree")
	}
	return level
}

// land puts the tree of a commit, with another one grafted in unless it is "", on top of main; the work tree stays as it is.
func (a *access) land(commit, folder, graft string) {
	a.t.Helper()
	tree := a.run("rev-parse", commit+"^{tree}")
	if graft != "" {
		parts := strings.Split(folder, "/")
		tree = graft
		for i := len(parts) - 1; i >= 0; i-- {
			kept := a.run("ls-tree", commit+":"+strings.Join(parts[:i], "/"))
			var lines []string
			for _, line := range strings.Split(kept, "\n") {
				if !strings.HasSuffix(line, "\t"+parts[i]) {
					lines = append(lines, line)
				}
			}
			tree = a.input(strings.Join(append(lines, "040000 tree "+tree+"\t"+parts[i]), "\n")+"\n", "mktree")
		}
	}
	a.clock = a.clock.Add(time.Minute)
	a.run("update-ref", "refs/heads/main", a.run("commit-tree", "-p", "refs/heads/main", "-m", "land", tree))
}

// Whoever may merge can put folders without end into the repository. That silences
// nothing: what is taken out or revoked on top of them is, and nothing new is granted
// before they are gone.
func TestFoldersWithoutEnd(t *testing.T) {
	deep := strings.Repeat("a/", 40) + "x.yaml"
	t.Run("deep, where no documents are", func(t *testing.T) {
		a := newAccess(t)
		h := a.syncer()
		h.once()
		a.write("docs/"+deep, "x")
		a.commit("deep")
		a.put(reviewPath("report"), review("report", 1, "app.items"))
		h.expect("etl#1 report#1", "")
		a.syncer().expect("etl#1 report#1", "")
	})
	t.Run("deep, where documents are", func(t *testing.T) {
		a := newAccess(t)
		h := a.syncer()
		h.once()
		a.write("reviews/orders-db/"+deep, "x")
		a.commit("deep")
		h.once()
		a.put(reviewPath("report"), review("report", 1, "app.items"))
		a.remove(reviewPath("etl"))
		a.commit("removed")
		h.expect("report#1", "")
		a.syncer().expect("report#1", "")
	})
	t.Run("wide, where no documents are", func(t *testing.T) {
		a := newAccess(t)
		h := a.syncer()
		h.once()
		a.run("checkout", "--quiet", "-b", "work")
		a.land("HEAD", "docs", a.bomb(1500))
		h.expect("etl#1", "")
		h.expect("etl#1", "")
		a.syncer().expect("etl#1", "")
		a.land("HEAD", "reviews/orders-db/more", a.bomb(200))
		h.expect("etl#1", "no AccessReview is stored here")
	})
	t.Run("wide, where documents are", func(t *testing.T) {
		a := newAccess(t)
		a.write(reviewPath("carols"), review("carols", 1, "app.items"))
		a.write(reviewPath("gone"), review("gone", 1, "app.items"))
		a.sign(reviewPath("carols"), "user:carol")
		a.sign(reviewPath("gone"), "user:bob")
		a.commit("more")
		h := a.syncer()
		h.expect("carols#1 etl#1 gone#1", "")
		a.run("checkout", "--quiet", "-b", "work")
		bomb, folder := a.bomb(1500), "reviews/bomb"
		a.land("HEAD", folder, bomb)
		if r := h.expect("carols#1 etl#1 gone#1", "more folders and files than can be compared"); r.Broken == "" {
			t.Error("nothing is broken")
		}
		gone := a.read(reviewPath("gone"))
		a.remove(reviewPath("gone"))
		a.put(reviewPath("report"), review("report", 1, "app.items"))
		a.land("HEAD", folder, bomb)
		h.expect("carols#1 etl#1", "")
		a.rotate(more(fmt.Sprintf("  revoked: [{fingerprint: %q, reason: stolen}]\n", ssh.FingerprintSHA256(a.people["user:carol"].PublicKey()))), "user:bob")
		a.land("HEAD", folder, bomb)
		h.expect("etl#1", "")
		h.restart()
		a.syncer().expect("etl#1", "")
		// What was done meanwhile counts as one commit, but what was taken out meanwhile was.
		a.write(reviewPath("gone"), gone)
		a.sign(reviewPath("gone"), "user:bob")
		a.commit("gone again")
		a.land("HEAD", "", "")
		if r := h.expect("etl#1", "report.yaml: not granted: commit"); r.Broken != "" {
			t.Error(r.Broken)
		}
		a.put(reviewPath("report"), review("report", 2, "app.items"))
		a.land("HEAD", "", "")
		for _, h := range []*harness{h, a.syncer()} {
			h.expect("etl#1 report#2", "")
		}
		h.expect("etl#1 report#2", "sequence 1 was used before the review was deleted")
	})
	t.Run("wide, from the beginning", func(t *testing.T) {
		a := newAccess(t)
		a.run("checkout", "--quiet", "-b", "work")
		a.run("update-ref", "refs/heads/main", a.run("commit-tree", "-m", "nothing", a.input("", "mktree")))
		a.land("HEAD", "connections/bomb", a.bomb(1500))
		a.land("HEAD", "", "")
		a.syncer().expect("etl#1", "")
	})
}
