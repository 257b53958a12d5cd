package peers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSSHD(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	public, err := NewSSHKey(t.Context(), key, "")
	if err != nil {
		t.Fatal(err)
	}
	s := StartSSHD(t, SSHOptions{AuthorizedKeys: []string{public}})
	out, err := exec.Command("ssh", "-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-p", fmt.Sprint(s.Port), s.User+"@127.0.0.1", "echo hello").Output()
	if err != nil || strings.TrimSpace(string(out)) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
}
