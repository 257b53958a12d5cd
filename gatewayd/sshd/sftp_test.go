package sshd

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// tree is a world whose host has files, and a review about some of them.
func tree(t *testing.T) (w *world, dir string) {
	w = newWorld(t, setting{rules: "\n  allow:\n    - {exec: [id]}\n"})
	dir = filepath.Join(w.host.Dir, "srv")
	for _, d := range []string{"log/sub", "in", "secret"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o777))
	}
	for _, d := range []string{".", "log", "log/sub", "in", "secret"} {
		must(t, os.Chmod(filepath.Join(dir, d), 0o777))
	}
	for name, text := range map[string]string{"log/a.log": "one\n", "log/sub/b.log": "two\n", "secret/key": "secret\n", "in/old": "old\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
	}
	must(t, os.Symlink("../secret/key", filepath.Join(dir, "log/link")))
	must(t, os.Symlink("../secret", filepath.Join(dir, "log/dir")))
	w.review(fmt.Sprintf(`
  allow:
    - {sftp: read, path: "%[1]s/log/**"}
    - {sftp: write, path: "%[1]s/in/**"}
    - {sftp: rename, path: "%[1]s/in/**"}
    - {sftp: remove, path: "%[1]s/in/**"}
    - {sftp: attributes, path: "%[1]s/in/**"}
    - {sftp: links, path: "%[1]s/in/**"}
`, dir))
	w.release()
	return w, dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sftp runs a batch of commands; a leading "-" lets it go on after one that fails.
func (w *world) sftp(batch string) answer {
	w.t.Helper()
	return w.run("sftp", "", append(w.sshOptions("etl"), "-b", w.file("batch", batch), "127.0.0.1")...)
}

func TestSFTP(t *testing.T) {
	w, dir := tree(t)
	got := filepath.Join(w.dir, "got")
	put := make([]byte, 3<<20)
	rand.Read(put)
	w.file("put", string(put))
	a := w.sftp(fmt.Sprintf(`
ls -l %[1]s/log
get %[1]s/log/a.log %[2]s
get %[1]s/in/../log/sub/b.log %[2]s2
put %[3]s/put %[1]s/in/new
chmod 600 %[1]s/in/new
rename %[1]s/in/new %[1]s/in/newer
rm %[1]s/in/old
mkdir %[1]s/in/d
rmdir %[1]s/in/d
ln -s %[1]s/in/newer %[1]s/in/l
`, dir, got, w.dir))
	if a.code != 0 || !strings.Contains(a.out, "a.log") {
		t.Errorf("%+v", a)
	}
	if b, _ := os.ReadFile(got); string(b) != "one\n" {
		t.Errorf("got %q", b)
	}
	if b, _ := os.ReadFile(got + "2"); string(b) != "two\n" {
		t.Errorf("got %q", b)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "in/newer")); err != nil || string(b) != string(put) {
		if os.Geteuid() == 0 || err == nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	sum := sha256.Sum256(put)
	digest := false
	one := sha256.Sum256([]byte("one\n"))
	read := false
	for _, r := range w.records() {
		digest = digest || r.Result != nil && r.Result.Tag == fmt.Sprintf("%d bytes written, sha256:%s", len(put), hex.EncodeToString(sum[:]))
		read = read || r.Result != nil && r.Result.Tag == "4 bytes read, sha256:"+hex.EncodeToString(one[:])
	}
	if !digest || !read {
		t.Errorf("digests in the recording: written %v, read %v", digest, read)
	}
}

func TestSFTPDenied(t *testing.T) {
	w, dir := tree(t)
	for _, batch := range []string{
		"get %[1]s/secret/key %[2]s", "get %[1]s/log/link %[2]s", "get %[1]s/log/dir/key %[2]s", "get %[1]s/log/../secret/key %[2]s", "get %[1]s/in/old %[2]s", "ls %[1]s",
		"ls %[1]s/secret", "put %[3]s %[1]s/log/x", "put %[3]s %[1]s/x", "rm %[1]s/log/a.log", "rename %[1]s/in/old %[1]s/log/old", "rename %[1]s/log/a.log %[1]s/in/a",
		"ln -s %[1]s/secret/key %[1]s/in/l", "ln -s ../secret/key %[1]s/in/l", "ln %[1]s/log/a.log %[1]s/in/l", "ln -s %[1]s/in/old %[1]s/log/l", "chmod 777 %[1]s/log/a.log", "mkdir %[1]s/log/d",
		"rmdir %[1]s/log/sub", "df %[1]s/secret", "ls /etc", "get /etc/passwd %[2]s", "put %[3]s %[1]s/in/../x",
	} {
		got := filepath.Join(w.dir, "got")
		a := w.sftp(fmt.Sprintf(batch, dir, got, w.file("payload", "payload")))
		if a.code == 0 {
			t.Errorf("%s: %+v", batch, a)
		}
		if _, err := os.Stat(got); err == nil {
			b, _ := os.ReadFile(got)
			if len(b) > 0 {
				t.Errorf("%s brought %q", batch, b)
			}
			os.Remove(got)
		}
	}
	for name, text := range map[string]string{"log/a.log": "one\n", "in/old": "old\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"x", "log/x", "log/d", "in/l", "in/a", "log/l", "log/old"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	// A link that the review lets be made within the tree is followed by whom it leads to.
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "in/p")))
	if a := w.sftp(fmt.Sprintf("put %s %s/in/p\n", filepath.Join(w.dir, "payload"), dir)); a.code == 0 {
		t.Errorf("%+v", a)
	}
}

func TestSCP(t *testing.T) {
	w, dir := tree(t)
	scp := func(args ...string) answer {
		return w.run("scp", "", append(append(w.sshOptions("etl"), "-q"), args...)...)
	}
	for _, protocol := range []string{"-s", "-O"} { // sftp, and the old one
		got := filepath.Join(w.dir, "got"+protocol)
		if a := scp(protocol, "127.0.0.1:"+dir+"/log/a.log", got); a.code != 0 {
			t.Errorf("%s: %+v", protocol, a)
		}
		if b, _ := os.ReadFile(got); string(b) != "one\n" {
			t.Errorf("%s: got %q", protocol, b)
		}
		if a := scp(protocol, got, "127.0.0.1:"+dir+"/in/up"+protocol); a.code != 0 {
			t.Errorf("%s: %+v", protocol, a)
		}
		if _, err := os.Stat(filepath.Join(dir, "in/up"+protocol)); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		if a := scp(protocol, "127.0.0.1:"+dir+"/secret/key", got+"x"); a.code == 0 {
			t.Errorf("%s: %+v", protocol, a)
		}
		if a := scp(protocol, got, "127.0.0.1:"+dir+"/log/up"); a.code == 0 {
			t.Errorf("%s: %+v", protocol, a)
		}
	}
}

func TestRsyncAndGit(t *testing.T) {
	w, dir := tree(t)
	rsync, err := peers.Rsync(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The host's side is a copy of the same program, where the account reaches it.
	serverSide := filepath.Join(w.host.Dir, "rsync")
	program, err := os.ReadFile(rsync.Path)
	must(t, err)
	must(t, os.WriteFile(serverSide+".program", program, 0o755))
	for _, e := range rsync.Env {
		if libraries, is := strings.CutPrefix(e, "LD_LIBRARY_PATH="); is {
			must(t, os.CopyFS(serverSide+".lib", os.DirFS(libraries)))
		}
	}
	must(t, os.WriteFile(serverSide, []byte("#!/bin/sh\nLD_LIBRARY_PATH="+serverSide+".lib exec "+serverSide+".program \"$@\"\n"), 0o755))
	repo := filepath.Join(dir, "app.git")
	git, err := peers.Git(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet", "--bare", repo}, {"clone", "--quiet", repo, filepath.Join(w.dir, "work")}} {
		if _, err := git.Run(t.Context(), "", args...); err != nil {
			t.Fatal(err)
		}
	}
	work := filepath.Join(w.dir, "work")
	for _, args := range [][]string{{"commit", "--quiet", "--allow-empty", "-m", "first"}, {"push", "--quiet", "origin", "HEAD:main"}} {
		if _, err := git.With("GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b").Run(t.Context(), work, args...); err != nil {
			t.Fatal(err)
		}
	}
	w.review(fmt.Sprintf(`
  allow:
    - {exec: [%[1]q, --server, --sender, "-*", ., "%[2]s/log/*"]}
    - {exec: [git-upload-pack, %[3]q]}
`, serverSide, dir, repo))
	w.release()
	options := "ssh " + strings.Join(w.sshOptions("etl"), " ")
	got := filepath.Join(w.dir, "synced")
	out, err := rsync.Run(t.Context(), "", "-a", "-e", options, "--rsync-path", serverSide, "127.0.0.1:"+dir+"/log/sub", got)
	if b, _ := os.ReadFile(filepath.Join(got, "sub/b.log")); err != nil || string(b) != "two\n" {
		t.Errorf("%q, %v, got %q", out, err, b)
	}
	if _, err := rsync.Run(t.Context(), "", "-a", "-e", options, "--rsync-path", serverSide, "127.0.0.1:"+dir+"/secret/", got); err == nil || !strings.Contains(err.Error(), "denial d-") {
		t.Errorf("%v", err)
	}
	// The repository belongs to who runs the tests, which git on the host may have to be told; the wire is what is tested.
	clone, err := git.With("GIT_SSH_COMMAND="+options).Run(t.Context(), "", "clone", "--quiet", "ssh://127.0.0.1"+repo, filepath.Join(w.dir, "cloned"))
	if err != nil && !strings.Contains(err.Error(), "dubious ownership") {
		t.Errorf("%q, %v", clone, err)
	}
	if _, err := git.With("GIT_SSH_COMMAND="+options).Run(t.Context(), work, "push", "--quiet", "ssh://127.0.0.1"+repo, "HEAD:other"); err == nil || !strings.Contains(err.Error(), "denial d-") {
		t.Errorf("a push was not denied: %v", err)
	}
}
