package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/bucket"
	"github.com/sallyport-dev/sallyport/gatewayd/credential"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

// Config is gatewayd's one configuration file, YAML. Unknown keys are refused,
// and all problems are reported at once with file, line and column. Relative
// paths are relative to the file's folder. docs/configuration.md is this struct.
type Config struct {
	// Name is this gateway's name in trust/root.yaml. Required.
	Name string `yaml:"name"`
	// Key is the file of the gateway's private SSH key (ed25519, without a
	// passphrase, mode 0600). It signs recordings and audit commits and, unless
	// postgres.tls names a certificate, is the key of the TLS certificate.
	// Its public half must be the one that the trust root gives this gateway. Required.
	Key string `yaml:"key"`
	// TrustRoot is "sha256:" and the hex digest of the trust/root.yaml that this
	// gateway trusts: `sallyport init` prints it, `sha256sum trust/root.yaml` shows it. Required.
	TrustRoot string `yaml:"trustRoot"`
	// Release is where releases are found: the folder that `sallyport sync` publishes
	// to, "https://host/path" where a web server has such a folder (http on loopback
	// only), or "s3://bucket/prefix?endpoint=URL&region=NAME" with credentials from
	// the AWS environment or profile. Required.
	Release string `yaml:"release"`
	// Fetch says how releases are fetched that are not in a folder.
	Fetch Fetch `yaml:"fetch"`
	// MaxExtension is how far beyond its end a release is used when the members of
	// the trust root extended it. Default 168h, at most 744h.
	MaxExtension reviews.Duration `yaml:"maxExtension"`
	// Verify is "release" (default: the release key vouches for approvals) or
	// "full": every approval in a release is verified again, so that a stolen
	// release key alone grants nothing.
	Verify string `yaml:"verify"`
	// State is a folder of the gateway's own: the high-water mark of releases and
	// summaries on their way to git. It is created with mode 0700. Required.
	State string `yaml:"state"`
	// Recordings says where and how sessions are recorded.
	Recordings Recordings `yaml:"recordings"`
	// Audit says where summaries are committed.
	Audit Audit `yaml:"audit"`
	// Postgres is the listener for PostgreSQL clients. This, SSH, Kubernetes or several are required.
	Postgres Postgres `yaml:"postgres"`
	// SSH is the listener for SSH clients.
	SSH SSH `yaml:"ssh"`
	// Kubernetes is the listener for kubectl, client-go and other clients of the Kubernetes API.
	Kubernetes Kubernetes `yaml:"kubernetes"`
	// Admin is the listener for /healthz, /readyz, /status and /metrics, and for
	// `gatewayd status`. It shows names of principals, connections and reviews.
	Admin Admin `yaml:"admin"`
	// Credentials lists the credential references that connection documents may
	// use on this gateway, each exactly as they write it: "env:NAME",
	// "file:/absolute/path" or "exec:/absolute/program arg". A document that
	// names another one gets an error and no connection.
	Credentials []string `yaml:"credentials"`
	// Log says how the gateway logs to standard error.
	Log Log `yaml:"log"`
}

// Fetch configures how releases are fetched.
type Fetch struct {
	// Every is how often the source is asked for changes. Default 1s.
	Every reviews.Duration `yaml:"every"`
	// Token is where the bearer token for a web server is: "env:NAME" or
	// "file:/absolute/path". Read at each request. Default: none.
	Token string `yaml:"token"`
	// CA is a PEM file of the authorities that the server's certificate may come
	// from. Default: the system's.
	CA string `yaml:"ca"`
}

// Recordings configures the journal and the recordings.
type Recordings struct {
	// Dir is the folder of the journal and the recordings. Required.
	Dir string `yaml:"dir"`
	// Durability is "fsync" (default: a command is on disk before it is
	// forwarded) or "process" (it survives the gateway, not a power loss).
	Durability string `yaml:"durability"`
	// OutputPerStatement is how many bytes of each statement's output are
	// recorded. Default 65536; 0 records none.
	OutputPerStatement int64 `yaml:"outputPerStatement"`
}

// Audit configures the commits of summaries.
type Audit struct {
	// Repository is the URL or path of the git repository with the audit branch.
	// Without it summaries stay in the state folder.
	Repository string `yaml:"repository"`
	// Branch is created when it does not exist. Default "audit".
	Branch string `yaml:"branch"`
	// Every is how often a batch is committed. Default 5s.
	Every reviews.Duration `yaml:"every"`
}

// Postgres configures the PostgreSQL listener.
type Postgres struct {
	// Listen is host:port. Required.
	Listen string `yaml:"listen"`
	// Plain also accepts clients without TLS. Only on a loopback address.
	Plain bool `yaml:"plain"`
	// TLS names a certificate. Default: one made from Key, which
	// `sallyport connect` verifies by the trust root.
	TLS TLS `yaml:"tls"`
}

// SSH configures the SSH listener. Clients know the gateway by Key.
type SSH struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
	// OutputPerCommand is how many bytes of each command's output are recorded;
	// what is beyond is counted and digested. Default 16777216; 0 records none.
	OutputPerCommand int64 `yaml:"outputPerCommand"`
	// RecordInput also records what clients send to commands and shells, passwords that they type included. Default false.
	RecordInput bool `yaml:"recordInput"`
}

// Kubernetes configures the listener for clients of the Kubernetes API. It shows the
// same certificate as the PostgreSQL listener.
type Kubernetes struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
	// OutputPerCommand is how many bytes of each exec, attach, log or watch are recorded; of a single answer it is never
	// more than 65536. Default 16777216; 0 records none.
	OutputPerCommand int64 `yaml:"outputPerCommand"`
}

// TLS is a certificate and its key, PEM files, both or none.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Admin configures the operators' listener.
type Admin struct {
	// Listen is host:port on a loopback address. Without it there is no admin listener.
	Listen string `yaml:"listen"`
}

// Log configures logging.
type Log struct {
	// Level is "debug", "info" (default), "warn" or "error".
	Level string `yaml:"level"`
	// Format is "text" (default) or "json".
	Format string `yaml:"format"`
}

var pinned = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// loadConfig reads and checks the file. The error has every problem found.
func loadConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: name the file with --config; docs/configuration.md has one to begin with", err)
	}
	c := &Config{
		Verify:     "release",
		Recordings: Recordings{Durability: "fsync", OutputPerStatement: 64 << 10},
		Audit:      Audit{Branch: "audit", Every: reviews.Duration(5 * time.Second)},
		SSH:        SSH{OutputPerCommand: 16 << 20},
		Kubernetes: Kubernetes{OutputPerCommand: 16 << 20},
		Log:        Log{Level: "info", Format: "text"},
		Fetch:      Fetch{Every: reviews.Duration(time.Second)}, MaxExtension: reviews.Duration(release.DefaultMaxExtension),
	}
	lines, err := strictyaml.Decode(path, b, c, strictyaml.Options{})
	problems := strictyaml.Problems{}
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if len(problems) == 0 {
		c.resolve(filepath.Dir(path))
	}
	problems = append(problems, c.check(lines)...)
	problems.Sort()
	return c, problems.Err()
}

// resolve makes paths relative to the configuration file absolute.
func (c *Config) resolve(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	for _, p := range []*string{&c.Key, &c.Release, &c.Fetch.CA, &c.State, &c.Recordings.Dir, &c.Postgres.TLS.Cert, &c.Postgres.TLS.Key} {
		if *p != "" && !filepath.IsAbs(*p) && (p != &c.Release || c.isFolder()) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (c *Config) check(lines strictyaml.Lines) strictyaml.Problems {
	var problems strictyaml.Problems
	add := func(path, message, fix string) {
		problems = append(problems, strictyaml.Problem{Position: lines.At(path), Message: message, Fix: fix})
	}
	for _, f := range []struct{ path, value, fix string }{
		{"name", c.Name, "write the gateway's name in trust/root.yaml"},
		{"key", c.Key, "write the path of the gateway's private SSH key"},
		{"trustRoot", c.TrustRoot, "write sha256: and the digest of trust/root.yaml"},
		{"release", c.Release, "write the folder that sallyport sync publishes to, https://… or s3://…"},
		{"state", c.State, "write a folder of the gateway's own"},
		{"recordings.dir", c.Recordings.Dir, "write the folder for recordings"},
	} {
		if f.value == "" {
			add(f.path, f.path+" is missing", f.fix)
		}
	}
	if c.Postgres.Listen == "" && c.SSH.Listen == "" && c.Kubernetes.Listen == "" {
		add("postgres.listen", "neither postgres.listen nor ssh.listen nor kubernetes.listen is there", "write host:port, for example 127.0.0.1:6432")
	}
	if c.Kubernetes.OutputPerCommand < 0 {
		add("kubernetes.outputPerCommand", "outputPerCommand is negative", "write a number of bytes")
	}
	if c.SSH.OutputPerCommand < 0 {
		add("ssh.outputPerCommand", "outputPerCommand is negative", "write a number of bytes")
	}
	if c.TrustRoot != "" && !pinned.MatchString(c.TrustRoot) {
		add("trustRoot", "trustRoot is not a digest", "write sha256: and 64 lower-case hex digits")
	}
	if c.Verify != "release" && c.Verify != "full" {
		add("verify", "verify is neither release nor full", "write full to verify every approval here")
	}
	if c.Key != "" {
		if problem := privateFile(c.Key); problem != "" {
			add("key", problem, "chmod 0600 the key, and let gatewayd's user own it")
		}
	}
	if d := c.Recordings.Durability; d != "fsync" && d != "process" {
		add("recordings.durability", "durability is neither fsync nor process", "write fsync")
	}
	if c.Recordings.OutputPerStatement < 0 {
		add("recordings.outputPerStatement", "outputPerStatement is negative", "write a number of bytes")
	}
	if c.Audit.Every <= 0 {
		add("audit.every", "every has to be positive", "write 5s")
	}
	if (c.Postgres.TLS.Cert == "") != (c.Postgres.TLS.Key == "") {
		add("postgres.tls", "tls needs both cert and key", "write both, or neither to use the gateway's key")
	} else if c.Postgres.TLS.Key != "" {
		if problem := privateFile(c.Postgres.TLS.Key); problem != "" {
			add("postgres.tls.key", problem, "chmod 0600 the key, and let gatewayd's user own it")
		}
	}
	c.checkRelease(add)
	c.checkListeners(add)
	for i, ref := range c.Credentials {
		if err := credential.Check(ref); err != nil {
			add(fmt.Sprintf("credentials[%d]", i), "this is not a credential reference", "write env:NAME, file:/absolute/path or exec:/absolute/program")
		}
	}
	if !level(c.Log.Level).known {
		add("log.level", "unknown level", "write debug, info, warn or error")
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		add("log.format", "unknown format", "write text or json")
	}
	return problems
}

func (c *Config) checkRelease(add func(path, message, fix string)) {
	web := false
	switch {
	case c.Release == "" || c.isFolder():
	case strings.HasPrefix(c.Release, bucket.Scheme):
		if _, err := bucket.Parse(c.Release); err != nil {
			add("release", err.Error(), "take credentials from the AWS environment or profile")
		}
	case strings.HasPrefix(c.Release, "https://") || strings.HasPrefix(c.Release, "http://"):
		web = true
		if _, err := release.NewHTTP(c.Release, release.HTTPOptions{}); err != nil {
			add("release", err.Error(), "name a token under fetch.token")
		}
	default:
		add("release", "release is no location that is known", "write a folder, https://host/path or s3://bucket/prefix")
	}
	if c.Fetch.Every <= 0 {
		add("fetch.every", "every has to be positive", "write 1s")
	}
	if c.Fetch.Token != "" {
		kind, _, _ := strings.Cut(c.Fetch.Token, ":")
		if credential.Check(c.Fetch.Token) != nil || kind == "exec" {
			add("fetch.token", "this is not where a token is", "write env:NAME or file:/absolute/path")
		} else if !web {
			add("fetch.token", "a token is for a release at https://", "remove it: a bucket takes credentials from the AWS environment or profile")
		}
	}
	if _, err := loadCA(c.Fetch.CA); err != nil {
		add("fetch.ca", err.Error(), "write a file with certificates in PEM")
	}
	if c.MaxExtension <= 0 || c.MaxExtension.Std() > release.MaxExtension {
		add("maxExtension", fmt.Sprintf("maxExtension is not positive, or longer than %s", reviews.Duration(release.MaxExtension)), "write 168h: nothing can be revoked while a release is extended")
	}
}

func (c *Config) checkListeners(add func(path, message, fix string)) {
	for _, l := range []struct{ path, addr string }{{"postgres.listen", c.Postgres.Listen}, {"ssh.listen", c.SSH.Listen}, {"kubernetes.listen", c.Kubernetes.Listen}, {"admin.listen", c.Admin.Listen}} {
		if l.addr == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(l.addr); err != nil || port == "" {
			add(l.path, l.path+" is not host:port", "write for example 127.0.0.1:6432")
		}
	}
	if c.Postgres.Plain && c.Postgres.Listen != "" && !loopback(c.Postgres.Listen) {
		add("postgres.plain", "plain is only allowed on a loopback address", "listen on 127.0.0.1, or remove plain: true")
	}
	if c.Admin.Listen != "" && !loopback(c.Admin.Listen) {
		add("admin.listen", "the admin listener must be on a loopback address", "write 127.0.0.1:PORT, and let a local agent collect the metrics")
	}
	taken := map[string]bool{}
	for _, l := range []struct{ path, addr string }{{"postgres.listen", c.Postgres.Listen}, {"ssh.listen", c.SSH.Listen}, {"kubernetes.listen", c.Kubernetes.Listen}, {"admin.listen", c.Admin.Listen}} {
		if l.addr != "" && taken[l.addr] && !anyPort(l.addr) {
			add(l.path, "two listeners have the same address", "choose another port")
		}
		taken[l.addr] = true
	}
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func anyPort(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	return port == "0"
}

// privateFile says what is wrong with a file that holds a secret; "" when nothing is.
func privateFile(path string) string {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no file " + path
	case err != nil:
		return cmp.Or(err.Error(), "it cannot be read")
	case !info.Mode().IsRegular():
		return path + " is not a regular file"
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Sprintf("%s can be read by others (mode %04o)", path, info.Mode().Perm())
	}
	return ""
}
