package credential

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyListedReferencesAreResolved(t *testing.T) {
	t.Setenv("ORDERS_PASSWORD", "correct horse")
	t.Setenv("AWS_SECRET", "not yours")
	s, err := NewStore([]string{"env:ORDERS_PASSWORD"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Resolve(t.Context(), "env:ORDERS_PASSWORD")
	if err != nil || got.Reveal() != "correct horse" {
		t.Fatalf("Resolve = %q, %v", got.Reveal(), err)
	}
	for _, ref := range []string{"env:AWS_SECRET", "exec:/bin/echo x", "env:orders_password", "env:ORDERS_PASSWORD "} {
		if got, err := s.Resolve(t.Context(), ref); err == nil || got.Reveal() != "" {
			t.Errorf("%s was resolved although it is not listed", ref)
		} else if !strings.Contains(err.Error(), "credentials") {
			t.Errorf("%s: the error does not say where to list it: %v", ref, err)
		}
	}
}

func TestMalformedReferencesAreRefused(t *testing.T) {
	for _, ref := range []string{"", "env:", "env", "file:relative", "exec:cat /x", "vault:kv/x", "env:A=B", "file:/a\nb", "plain-password"} {
		if _, err := NewStore([]string{ref}); err == nil {
			t.Errorf("%q was accepted", ref)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	os.WriteFile(path, []byte("s3cret\n"), 0o600)
	got, err := Resolve(t.Context(), "file:"+path)
	if err != nil || got.Reveal() != "s3cret" {
		t.Fatalf("Resolve = %v, %v", got.Reveal(), err)
	}
	os.Chmod(path, 0o644)
	if _, err := Resolve(t.Context(), "file:"+path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file that everybody can read was accepted: %v", err)
	}
	if _, err := Resolve(t.Context(), "file:"+filepath.Dir(path)); err == nil {
		t.Error("a folder was accepted")
	}
}

func TestExecFailureShowsNoOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "get")
	os.WriteFile(path, []byte("#!/bin/sh\necho canary-$1\necho canary-stderr >&2\nexit ${2:-0}\n"), 0o700)
	got, err := Resolve(t.Context(), "exec:"+path+" a")
	if err != nil || got.Reveal() != "canary-a" {
		t.Fatalf("Resolve = %q, %v", got.Reveal(), err)
	}
	if _, err = Resolve(t.Context(), "exec:"+path+" a 3"); err == nil || strings.Contains(err.Error(), "canary-stderr") || strings.Contains(err.Error(), "canary-a") {
		t.Errorf("error of a failing program: %v", err)
	}
	// A substitution must reach the program as it is: no shell reads it.
	if got, err := Resolve(t.Context(), "exec:"+path+" $(id)"); err != nil || got.Reveal() != "canary-$(id)" {
		t.Errorf("Resolve = %q, %v", got.Reveal(), err)
	}
}

func TestEmptySecretIsAnError(t *testing.T) {
	t.Setenv("EMPTY", "")
	for _, ref := range []string{"env:EMPTY", "env:SURELY_NOT_SET_ANYWHERE"} {
		if _, err := Resolve(t.Context(), ref); err == nil {
			t.Errorf("%s was accepted", ref)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := NewSecret("canary")
	j, _ := json.Marshal(map[string]any{"s": s})
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprint(&s), s.String(), s.GoString(), string(j), s.LogValue().String(), fmt.Sprintf("%+v", struct{ S Secret }{s})} {
		if strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") {
			t.Errorf("printed: %s", text)
		}
	}
}
