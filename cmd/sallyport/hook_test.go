package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A branch under review brings hooks. Nothing that init says or writes makes the reviewer's git run them, and a
// clone that was told to by an older version, or by hand, is mended.
func TestHooksOfABranchDoNotRun(t *testing.T) {
	w := newWorkplace(t)
	ran := w.path("ran")
	evil := func(path string) string {
		file := filepath.Join(w.path("access"), path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho "+path+" >> "+ran+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w.git("switch", "--quiet", "--create", "evil")
	for _, hook := range []string{"post-checkout", "reference-transaction", "pre-commit", "post-merge"} {
		w.git("add", "--force", evil(".sallyport/hooks/"+hook), evil("hooks/"+hook))
	}
	w.git("commit", "--quiet", "--message", "evil")
	w.git("switch", "--quiet", "main")
	look := func() string {
		t.Helper()
		_ = os.Remove(ran)
		w.git("checkout", "--quiet", "evil")
		w.git("switch", "--quiet", "main")
		b, err := os.ReadFile(ran)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, path := range []string{"", ".sallyport/hooks", "hooks", filepath.Join(w.path("access"), ".sallyport", "hooks"), "../access/hooks"} {
		if path != "" {
			w.git("config", "core.hooksPath", path)
			if look() == "" {
				t.Fatalf("core.hooksPath=%s: this test attacks nothing", path)
			}
			if out, _, code := w.run(nil, "doctor"); code != exitFailed || !strings.Contains(out, "fail  git hooks") || !strings.Contains(out, "→ sallyport hook install") {
				t.Errorf("doctor with core.hooksPath=%s: %d\n%s", path, code, out)
			}
		}
		out := w.must(nil, "hook", "install")
		if ran := look(); ran != "" {
			t.Errorf("core.hooksPath=%s: after `hook install` ran %s", path, ran)
		}
		if took := strings.Contains(out, "took core.hooksPath="+path+" out"); took != (path != "") {
			t.Errorf("core.hooksPath=%s: said\n%s", path, out)
		}
		if out, _, _ := w.run(nil, "doctor"); !strings.Contains(out, "ok    git hooks") {
			t.Errorf("doctor: %s", out)
		}
	}
	if _, err := os.Stat(filepath.Join(w.path("access"), ".git", "hooks", hookName)); err != nil {
		t.Error(err)
	}
}

// What is somebody else's is not overwritten, and what cannot be mended here is refused.
func TestHookInstallRefuses(t *testing.T) {
	w := newWorkplace(t)
	own := filepath.Join(w.path("access"), ".git", "hooks", hookName)
	refused := func(want string) {
		t.Helper()
		if out, errOut, code := w.run(nil, "hook", "install"); code != exitFailed || !strings.Contains(errOut, want) {
			t.Errorf("code %d, want %q:\n%s%s", code, want, out, errOut)
		}
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused("is not sallyport's")
	if b, err := os.ReadFile(own); err != nil || string(b) != "#!/bin/sh\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	shared := w.path("shared")
	w.git("config", "core.hooksPath", shared)
	refused("which other clones may share")
	w.git("config", "--unset", "core.hooksPath")
	if err := os.RemoveAll(filepath.Dir(own)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../.sallyport", filepath.Dir(own)); err != nil {
		t.Fatal(err)
	}
	refused("which branches can write")
	if err := os.Remove(filepath.Dir(own)); err != nil {
		t.Fatal(err)
	}
	w.must(nil, "hook", "install")
	w.must(nil, "hook", "install")
}
