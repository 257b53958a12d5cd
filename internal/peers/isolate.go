package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// foreign names the variables that would let the user's own set-up reach a peer: libpq, git, ssh and the
// gateway's own settings. A trailing "*" stands for every variable with that prefix.
var foreign = []string{"PG*", "GIT_*", "SSH_*", "GPG_*", "XDG_CONFIG_HOME", "EMAIL", "SALLYPORT_KEY", "SALLYPORT_TOKEN", "SALLYPORT_REPO"}

// fixed is set instead: git reads no configuration but the repository's own, asks nothing, and names an author.
var fixed = []string{
	"GIT_CONFIG_NOSYSTEM=1",
	"GIT_CONFIG_GLOBAL=/dev/null",
	"GIT_TERMINAL_PROMPT=0",
	"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com",
	"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com",
	"LC_ALL=C", "TZ=UTC",
}

func isForeign(name string) bool {
	for _, pattern := range foreign {
		prefix, open := strings.CutSuffix(pattern, "*")
		if name == pattern || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// CleanEnv returns env without anything of the user's own set-up, with HOME set to home.
func CleanEnv(env []string, home string) []string {
	var clean []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if name != "HOME" && !isForeign(name) {
			clean = append(clean, entry)
		}
	}
	return append(append(clean, "HOME="+home), fixed...)
}

// IsolateProcess cleans the environment of this process for good, with HOME set to home; for TestMain and the demo.
func IsolateProcess(home string) error {
	pins, err := cachePins()
	if err != nil {
		return err
	}
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); isForeign(name) {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	for _, entry := range append(append(pins, fixed...), "HOME="+home) {
		name, value, _ := strings.Cut(entry, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// quietGo turns telemetry off for a home: a go command leaves a process behind
// that writes there, also after the test has ended and removed it.
func quietGo(home string) error {
	dir := filepath.Join(home, ".config", "go", "telemetry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "mode"), []byte("off\n"), 0o600)
}

// IsolateEnv cleans the environment of the running test and of all it starts: no PG* variables, no
// ssh-agent, no git configuration, and an empty HOME. The environment comes back when the test ends. Go's and the package's own
// caches stay where they are.
func IsolateEnv(t testing.TB) {
	t.Helper()
	pins, err := cachePins()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if !isForeign(name) {
			continue
		}
		t.Setenv(name, value) // registers the way back
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	home := t.TempDir()
	if err := quietGo(home); err != nil {
		t.Fatal(err)
	}
	for _, entry := range append(append(pins, fixed...), "HOME="+home) {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
}

// cachePins fixes the caches whose place follows from HOME, so that an isolated process may still build a binary
// and finds what was fetched before.
func cachePins() ([]string, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	pins := []string{"SALLYPORT_CACHE=" + cache}
	names := []string{"GOCACHE", "GOMODCACHE", "GOPATH"}
	values, err := output(exec.Command("go", append([]string{"env"}, names...)...))
	if err != nil {
		return nil, err
	}
	for i, value := range strings.Split(strings.TrimSpace(values), "\n") {
		pins = append(pins, names[i]+"="+value)
	}
	return pins, nil
}
