package peers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// giteaVersion is what internal/peers/gitea/go.mod requires: the newest that the Go module proxy serves under that name.
const giteaVersion = "1.26.0"

// giteaFolders are what a server reads at run time besides its program.
var giteaFolders = []string{"options", "public", "templates"}

// GiteaServer is a running Gitea of our own, on 127.0.0.1, with no repositories and one administrator.
type GiteaServer struct {
	URL     string // http://127.0.0.1:PORT
	Admin   GiteaUser
	LogFile string

	dir     string
	process *Process
}

// GiteaUser is an account with a token that may do all the account may.
type GiteaUser struct {
	ID       int64
	Name     string
	Password string
	Token    string
}

// PrepareGitea makes sure that Gitea is built and in the cache, and returns the folder of its program and what that reads. A first
// build takes five minutes of processor time.
func PrepareGitea(ctx context.Context, progress Progress) (dir string, err error) {
	source, err := giteaSource(ctx)
	if err != nil {
		return "", missingGitea(err)
	}
	digest := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", missingGitea(err)
		}
		fmt.Fprintf(digest, "%s %d\n%s", name, len(text), text)
	}
	dir, err = cached(ctx, fmt.Sprintf("gitea-%s-%.6x", giteaVersion, digest.Sum(nil)), func(ctx context.Context, dir string) error {
		return buildGitea(ctx, source, dir, progress)
	})
	if err != nil {
		return "", missingGitea(err)
	}
	progress.say("Gitea: %s from %s", giteaVersion, dir)
	return dir, nil
}

func missingGitea(err error) error {
	return &Missing{Peer: "Gitea " + giteaVersion, Reason: err.Error(), Install: "go run ./internal/peers/prepare gitea (in a checkout, with a C compiler)"}
}

// giteaSource is the folder of the nested module, found from the module that the caller runs in.
func giteaSource(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "go", "env", "GOMOD"))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(out)), "internal", "peers", "gitea")
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("it is built from a checkout of sallyport, and this does not run in one: %w", err)
	}
	return dir, nil
}

func buildGitea(ctx context.Context, source, dir string, progress Progress) error {
	progress.say("Gitea: building %s from its Go module, once; this takes five minutes of processor time", giteaVersion)
	build := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", "sqlite sqlite_unlock_notify",
		"-ldflags", "-s -w -X main.version="+giteaVersion, "-o", filepath.Join(dir, "gitea"), ".")
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "GOWORK=off")
	said, err := build.StderrPipe()
	if err != nil {
		return err
	}
	if err := build.Start(); err != nil {
		return err
	}
	last := countPackages(said, progress)
	if err := build.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w: %s", source, err, last)
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "code.gitea.io/gitea")
	list.Dir = source
	module, err := output(list)
	if err != nil {
		return err
	}
	for _, name := range giteaFolders {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(strings.TrimSpace(module), name))); err != nil {
			return err
		}
	}
	return nil
}

// countPackages tells how far a `go build -v` is, twice a minute, and returns its last lines.
func countPackages(said io.Reader, progress Progress) (last string) {
	start, told := time.Now(), time.Now()
	var lines []string
	packages := 0
	for scanner := bufio.NewScanner(said); scanner.Scan(); packages++ {
		if lines = append(lines, scanner.Text()); len(lines) > 20 {
			lines = lines[1:]
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			progress.say("Gitea: compiled %d packages of about 1250 in %v", packages, time.Since(start).Round(time.Second))
		}
	}
	return strings.Join(lines, "; ")
}

// Gitea builds Gitea unless the cache has it, and starts it in a folder of its own. It returns when the server answers. The caller
// stops it with Stop; when this process dies first, the server and its folder go too.
func Gitea(ctx context.Context, progress Progress) (*GiteaServer, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	built, err := PrepareGitea(ctx, progress)
	if err != nil {
		return nil, err
	}
	dir, err := as.workDir("sallyport-gitea-")
	if err != nil {
		return nil, err
	}
	server, err := startGitea(ctx, as, built, dir, progress)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("Gitea %s: %w", giteaVersion, err), os.RemoveAll(dir))
	}
	return server, nil
}

func startGitea(ctx context.Context, as account, built, dir string, progress Progress) (*GiteaServer, error) {
	s := &GiteaServer{dir: dir, LogFile: filepath.Join(dir, "log")}
	programs := built
	if !as.reaches(built) {
		programs = filepath.Join(dir, "programs")
		if err := linkTree(built, programs); err != nil {
			return nil, err
		}
	}
	// The port is free when it is chosen and may be taken before the server has it.
	for try := 1; ; try++ {
		err := s.start(ctx, as, programs)
		if err == nil {
			break
		}
		if try == 5 || !strings.Contains(err.Error(), "address already in use") {
			return nil, err
		}
	}
	if err := s.makeAdmin(ctx, as, programs); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	progress.say("Gitea: %s answers on %s, run by %s", giteaVersion, s.URL, as.name)
	return s, nil
}

// linkTree makes a private tree reachable under another name. The files stay root's, and are copied only to another disk.
func linkTree(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range giteaFolders {
		if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
			return err
		}
	}
	if os.Link(filepath.Join(from, "gitea"), filepath.Join(to, "gitea")) == nil {
		return nil
	}
	program, err := os.Open(filepath.Join(from, "gitea"))
	if err != nil {
		return err
	}
	defer program.Close()
	copied, err := os.OpenFile(filepath.Join(to, "gitea"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, program)
	return errors.Join(err, copied.Close())
}

// giteaSettings is app.ini: SQLite, nothing that talks to others, everything done at once, and pages smaller than the usual 50, so that
// whoever takes 50 for granted is found out.
const giteaSettings = `APP_NAME = test
RUN_MODE = prod
RUN_USER = %[1]s
WORK_PATH = %[2]s
[server]
PROTOCOL = http
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %[3]d
ROOT_URL = http://127.0.0.1:%[3]d/
DISABLE_SSH = true
OFFLINE_MODE = true
STATIC_ROOT_PATH = %[4]s
[database]
DB_TYPE = sqlite3
PATH = %[2]s/gitea.db
SQLITE_JOURNAL_MODE = WAL
[git.config]
core.fsync = none
[security]
INSTALL_LOCK = true
SECRET_KEY = %[5]s
PASSWORD_HASH_ALGO = pbkdf2$1000$50
[oauth2]
ENABLED = false
[service]
DISABLE_REGISTRATION = true
[session]
PROVIDER = memory
[queue]
TYPE = channel
[api]
MAX_RESPONSE_ITEMS = 20
[indexer]
ISSUE_INDEXER_TYPE = db
[cron]
ENABLED = false
[actions]
ENABLED = false
[packages]
ENABLED = false
[picture]
DISABLE_GRAVATAR = true
[webhook]
ALLOWED_HOST_LIST = loopback
[log]
MODE = console
LEVEL = Warn
`

// start writes the settings for a port and waits until the server answers on it.
func (s *GiteaServer) start(ctx context.Context, as account, programs string) error {
	port, err := choosePort()
	if err != nil {
		return err
	}
	s.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
	name := as.name
	if as.credential == nil {
		self, err := user.Current()
		if err != nil {
			return err
		}
		name = self.Username
	}
	settings := fmt.Sprintf(giteaSettings, name, s.dir, port, programs, rand.Text())
	if err := os.WriteFile(filepath.Join(s.dir, "app.ini"), []byte(settings), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	for _, path := range []string{s.dir, filepath.Join(s.dir, "app.ini"), s.LogFile} { // not the program, which may be a link
		if as.credential != nil {
			if err := os.Lchown(path, int(as.credential.Uid), int(as.credential.Gid)); err != nil {
				return err
			}
		}
	}
	// The server must not end with ctx, which may be that of the start alone.
	cmd := s.command(context.WithoutCancel(ctx), as, programs, "web")
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = Guard(cmd, "TERM", s.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.process.awaitReady(ctx, s.ping, s.Log); err != nil {
		s.process.Stop(5*time.Second, syscall.SIGTERM)
		return err
	}
	return nil
}

// command prepares Gitea's program, as the account, in its folder, with an environment of its own: its git must read and may
// write the configuration in that folder and no other.
func (s *GiteaServer) command(ctx context.Context, as account, programs string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "gitea"), append([]string{"--config", filepath.Join(s.dir, "app.ini")}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "GITEA_WORK_DIR=" + s.dir, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C", "TZ=UTC"}
	if as.credential != nil {
		cmd.Env = append(cmd.Env, "USER="+as.name)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential}
	return cmd
}

func (s *GiteaServer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return s.call(ctx, "GET", "version", nil, nil, nil)
}

// makeAdmin makes the first account. Its password goes to the program nowhere: the program makes one up and prints it.
func (s *GiteaServer) makeAdmin(ctx context.Context, as account, programs string) error {
	const name = "root"
	said, err := output(s.command(ctx, as, programs, "admin", "user", "create", "--admin", "--username", name, "--email", name+"@example.com",
		"--random-password", "--must-change-password=false"))
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(said, "generated random password is '")
	password, _, closed := strings.Cut(rest, "'")
	if !found || !closed {
		return errors.New("gitea admin user create printed no password")
	}
	s.Admin = GiteaUser{ID: 1, Name: name, Password: password}
	s.Admin.Token, err = s.newToken(ctx, s.Admin)
	return err
}

// NewUser makes an account that is nobody in particular.
func (s *GiteaServer) NewUser(ctx context.Context, name string) (GiteaUser, error) {
	u := GiteaUser{Name: name, Password: rand.Text()}
	made := struct {
		ID int64 `json:"id"`
	}{}
	err := s.call(ctx, "POST", "admin/users", &s.Admin, map[string]any{
		"username": name, "email": name + "@example.com", "password": u.Password, "must_change_password": false,
	}, &made)
	if err != nil {
		return GiteaUser{}, err
	}
	u.ID = made.ID
	u.Token, err = s.newToken(ctx, u)
	return u, err
}

func (s *GiteaServer) newToken(ctx context.Context, u GiteaUser) (string, error) {
	var made struct {
		Token string `json:"sha1"`
	}
	err := s.call(ctx, "POST", "users/"+url.PathEscape(u.Name)+"/tokens", &GiteaUser{Name: u.Name, Password: u.Password},
		map[string]any{"name": "test", "scopes": []string{"all"}}, &made)
	if err == nil && made.Token == "" {
		err = errors.New("gitea made an empty token")
	}
	return made.Token, err
}

// Call does one request of the API as a user: path is relative to /api/v1/, body is sent as JSON unless nil, and the
// answer is read into answer unless nil. Any status but 2xx is an error.
func (s *GiteaServer) Call(ctx context.Context, as GiteaUser, method, path string, body, answer any) error {
	return s.call(ctx, method, path, &as, body, answer)
}

func (s *GiteaServer) call(ctx context.Context, method, path string, as *GiteaUser, body, answer any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.URL+"/api/v1/"+path, sent)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	switch {
	case as == nil:
	case as.Token != "":
		request.Header.Set("Authorization", "token "+as.Token)
	default:
		request.SetBasicAuth(as.Name, as.Password)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return &GiteaError{Status: response.StatusCode, Message: method + " " + path + ": " + strconv.Itoa(response.StatusCode) + " " + strings.TrimSpace(string(text))}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// GiteaError is an answer other than 2xx.
type GiteaError struct {
	Status  int
	Message string
}

func (e *GiteaError) Error() string { return e.Message }

// Log is what the server wrote so far.
func (s *GiteaServer) Log() string {
	text, err := os.ReadFile(s.LogFile)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(text)
}

// Done is closed when the server has ended.
func (s *GiteaServer) Done() <-chan struct{} { return s.process.Done() }

// Err says how the server ended, and is nil while it runs.
func (s *GiteaServer) Err() error { return s.process.Err() }

// Stop ends the server and removes its folder. It may be called twice.
func (s *GiteaServer) Stop() error {
	s.process.Stop(10*time.Second, syscall.SIGTERM)
	return os.RemoveAll(s.dir)
}
