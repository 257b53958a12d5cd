package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestPostgres and newestPostgres are the major versions that sallyport is for. An installed server outside of
// them is passed over.
const (
	oldestPostgres = 15
	newestPostgres = 18
)

// serverDirs and the programs in them are looked at after PATH.
var serverDirs = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // the PostgreSQL project's RPMs
	"/usr/libexec/postgresql*",           // Alpine
	"/usr/local/pgsql/bin",               // built from source
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on ARM
	"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
	"/opt/homebrew/opt/libpq/bin",
	"/usr/local/opt/libpq/bin",
	"/opt/local/lib/postgresql*/bin", // MacPorts
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// installation is one PostgreSQL on disk.
type installation struct {
	bin     string   // the folder of initdb and postgres, or of psql
	version string   // "17.10"
	major   int      // 17
	tree    string   // the private folder that holds all of it, or "" when the system owns it
	env     []string // what its programs need besides the usual environment
}

// candidates returns the folders that hold the program, those of PATH first, then newest version first.
func candidates(program string) []string {
	var dirs []string
	add := func(path string) {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return
		}
		// Debian's /usr/bin/psql is a Perl wrapper that picks a cluster by its own rules.
		if filepath.Base(real) == program && !slices.Contains(dirs, filepath.Dir(real)) {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	if path, err := exec.LookPath(program); err == nil {
		add(path)
	}
	var usual []string
	for _, pattern := range serverDirs {
		found, _ := filepath.Glob(filepath.Join(pattern, program)) // the patterns above are well formed
		slices.SortFunc(found, func(a, b string) int { return trailingNumber(b) - trailingNumber(a) })
		usual = append(usual, found...)
	}
	for _, path := range usual {
		add(path)
	}
	return dirs
}

var number = regexp.MustCompile(`[0-9]+`)

// trailingNumber is the last number in a path such as /usr/lib/postgresql/15/bin, for sorting.
func trailingNumber(path string) int {
	all := number.FindAllString(path, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1]) // a number too long for an int sorts last, which is fine
	return n
}

// inspect asks the program for its version, which also shows that it runs at all.
func inspect(ctx context.Context, bin, program string, env []string) (installation, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), "--version")
	cmd.Env = append(CleanEnv(os.Environ(), os.TempDir()), env...)
	out, err := output(cmd)
	if err != nil {
		return installation{}, err
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
	fields := strings.Fields(out)
	if len(fields) < 3 {
		return installation{}, fmt.Errorf("%s --version printed %q", filepath.Join(bin, program), strings.TrimSpace(out))
	}
	major, err := strconv.Atoi(number.FindString(fields[2]))
	if err != nil {
		return installation{}, fmt.Errorf("%s --version printed %q", filepath.Join(bin, program), strings.TrimSpace(out))
	}
	return installation{bin: bin, version: fields[2], major: major, env: env}, nil
}

// installedServer finds a server that the account can run. major 0 accepts every supported version.
func installedServer(ctx context.Context, major int, as account) (installation, bool) {
	for _, dir := range candidates("initdb") {
		if !as.reaches(dir) {
			continue
		}
		found, err := inspect(ctx, dir, "postgres", nil)
		if err != nil || found.major < oldestPostgres || found.major > newestPostgres {
			continue
		}
		if major == 0 || found.major == major {
			return found, true
		}
	}
	return installation{}, false
}

func installedPsql(ctx context.Context) (installation, bool) {
	for _, dir := range candidates("psql") {
		if found, err := inspect(ctx, dir, "psql", nil); err == nil {
			return found, true
		}
	}
	return installation{}, false
}
