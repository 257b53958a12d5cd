package peers

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is who servers run as: the caller, or an unprivileged user when the caller is root, whom PostgreSQL refuses.
type account struct {
	name       string
	credential *syscall.Credential // nil: as the caller
}

func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: "the current user"}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return account{name: name, credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
		}
	}
	return account{}, &Missing{
		Peer:    "an unprivileged user",
		Reason:  "this runs as root, PostgreSQL does not, and there is neither a user postgres nor nobody",
		Install: "useradd --system postgres",
	}
}

// workDir makes a new folder that belongs to the account. As root it lies where the account can reach it,
// which a folder in root's home would not be.
func (a account) workDir(pattern string) (string, error) {
	parent := ""
	if a.credential != nil {
		for _, candidate := range []string{os.TempDir(), "/var/tmp", "/tmp"} {
			if reachable(candidate) {
				parent = candidate
				break
			}
		}
		if parent == "" {
			return "", fmt.Errorf("no folder for temporary files that the user %s can reach: %s and /var/tmp are closed to others", a.name, os.TempDir())
		}
	}
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", err
	}
	return dir, a.own(dir)
}

// own gives the files beneath dir to the account. Links are changed themselves, never followed.
func (a account) own(dir string) error {
	if a.credential == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid))
	})
}

// reaches reports whether the account can read and execute what lies at path.
func (a account) reaches(path string) bool { return a.credential == nil || reachable(path) }

// reachable reports whether everybody may pass through each folder on the way to path, path itself included.
func reachable(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for {
		info, err := os.Stat(real)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(real)
		if parent == real {
			return true
		}
		real = parent
	}
}
