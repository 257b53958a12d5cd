package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/reviews/strictyaml"
)

// documented is the YAML of docs/configuration.md.
func documented(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("docs/configuration.md has no yaml block")
	}
	return string(m[1])
}

// place writes a configuration and the key it names into a new folder.
func place(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gateway_ed25519"), []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "gatewayd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDocumentedConfigurationLoads(t *testing.T) {
	path := place(t, documented(t))
	c, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "release"); c.Release != want {
		t.Errorf("release = %s, want %s: paths are relative to the file", c.Release, want)
	}
}

// Every key of the struct is on the page, and so in its example.
func TestEveryKeyIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := prefix + f.Tag.Get("yaml")
			if f.Type.Kind() == reflect.Struct {
				walk(name+".", f.Type)
			} else if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/configuration.md does not explain `%s`", name)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

func TestAllProblemsAtOnce(t *testing.T) {
	text := documented(t)
	for _, r := range [][2]string{
		{"name: gw1", "nam: gw1"},
		{"durability: fsync", "durability: sometimes"},
		{"verify: release", "verify: mostly"},
		{"127.0.0.1:6432", "0.0.0.0:6432"},
		{"env:ORDERS_DB_PASSWORD", "hunter2"},
		{"level: info", "level: loud"},
	} {
		if !strings.Contains(text, r[0]) {
			t.Fatalf("the example has no %q", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	_, err := loadConfig(place(t, text))
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("err = %v", err)
	}
	for _, want := range []string{
		`:1:1: `, "nam", `did you mean "name"`,
		"durability is neither", "verify is neither", "plain is only allowed on a loopback address", "not a credential reference", "unknown level",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the problems do not mention %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a problem shows a value that may be a secret:\n%v", err)
	}
	for _, p := range problems {
		if p.Line == 0 || p.Column == 0 {
			t.Errorf("no position: %v", p)
		}
	}
}

func TestKeyThatOthersCanReadIsRefused(t *testing.T) {
	path := place(t, documented(t))
	if err := os.Chmod(filepath.Join(filepath.Dir(path), "gateway_ed25519"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(path); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("err = %v", err)
	}
}

func TestTwoListenersOnOneAddressAreRefused(t *testing.T) {
	text := strings.Replace(documented(t), "127.0.0.1:9090", "127.0.0.1:6432", 1)
	if _, err := loadConfig(place(t, text)); err == nil || !strings.Contains(err.Error(), "same address") {
		t.Errorf("err = %v", err)
	}
}

// Every location that the pages show is one that gatewayd takes.
func TestDocumentedLocationsLoad(t *testing.T) {
	page, err := os.ReadFile("../../docs/sync.md")
	if err != nil {
		t.Fatal(err)
	}
	locations := regexp.MustCompile("`((?:https|s3)://[^`…]+)`").FindAllStringSubmatch(string(page), -1)
	if len(locations) < 3 {
		t.Fatalf("the page shows only %q", locations)
	}
	for _, l := range locations {
		text := strings.Replace(documented(t), "release: release ", "release: "+l[1]+" ", 1)
		if c, err := loadConfig(place(t, text)); err != nil || c.Release != l[1] {
			t.Errorf("%s: %v", l[1], err)
		}
	}
}

func TestLocationsAndWhatGoesWithThem(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ release, fetch, max, want string }{
		{"https://u:hunter2@releases.example.org", "", "", "user, query or fragment"},
		{"http://releases.example.org", "", "", "https is required"},
		{"s3://key:hunter2@releases", "", "", "location of a bucket"},
		{"s3://releases?secret=hunter2", "", "", "besides endpoint and region"},
		{"ftp://releases.example.org", "", "", "no location that is known"},
		{"https://releases.example.org", "token: hunter2", "", "not where a token is"},
		{"https://releases.example.org", "token: exec:/bin/hunter2", "", "not where a token is"},
		{"s3://releases", "token: env:T", "", "for a release at https"},
		{"release", "token: env:T", "", "for a release at https"},
		{"https://releases.example.org", "ca: " + ca, "", "no certificate in PEM"},
		{"https://releases.example.org", "ca: /nonexistent.pem", "", "no such file"},
		{"https://releases.example.org", "every: 0s", "", "longer than zero"},
		{"release", "", "745h", "longer than 744h"},
	} {
		text := strings.Replace(documented(t), "release: release ", "release: \""+tt.release+"\" ", 1)
		text = strings.Replace(text, `fetch: {every: 1s, token: "", ca: ""}`, "fetch: {"+tt.fetch+"}", 1)
		if tt.max != "" {
			text = strings.Replace(text, "maxExtension: 168h", "maxExtension: "+tt.max, 1)
		}
		_, err := loadConfig(place(t, text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("a problem shows what may be a secret: %v", err)
		}
	}
}
