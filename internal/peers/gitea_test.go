//go:build forge

package peers

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

func TestGitea(t *testing.T) {
	IsolateEnv(t)
	s, err := Gitea(t.Context(), quiet(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			s.Stop()
		}
	})
	// The attacks first: who is nobody gets nothing, and nobody else reaches the server.
	var refused *GiteaError
	if err := s.Call(t.Context(), GiteaUser{Name: s.Admin.Name, Password: "wrong"}, "GET", "user", nil, nil); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Errorf("wrong password: %v", err)
	}
	if err := s.Call(t.Context(), GiteaUser{Token: strings.Repeat("0", 40)}, "GET", "user", nil, nil); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Errorf("wrong token: %v", err)
	}
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", "127.0.0.2:"+at.Port()); err == nil {
		conn.Close()
		t.Error("it listens on more than 127.0.0.1")
	}
	alice, err := s.NewUser(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Call(t.Context(), alice, "GET", "admin/users", nil, nil); !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		t.Errorf("alice lists users: %v", err)
	}
	var self struct {
		ID    int64
		Login string
	}
	if err := s.Call(t.Context(), alice, "GET", "user", nil, &self); err != nil || self.ID != alice.ID || self.Login != "alice" {
		t.Errorf("alice is %+v, %v", self, err)
	}
	var version struct{ Version string }
	if err := s.Call(t.Context(), s.Admin, "GET", "version", nil, &version); err != nil || version.Version != giteaVersion {
		t.Errorf("version %+v, %v", version, err)
	}
	stopped = true
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if s.Err() == nil {
		t.Error("stopped, and without an error")
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the folder %s stayed: %v", s.dir, err)
	}
}

func TestGiteaOutsideOfACheckout(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := PrepareGitea(t.Context(), quiet(t, nil))
	var missing *Missing
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "prepare gitea") {
		t.Errorf("got %v, want what to run", err)
	}
}
