// Package credential resolves where a connection document says its credential
// is: in the gateway's environment, in a file, or printed by a program. Only
// references that the gateway's own configuration lists are resolved, because a
// merged document must not be able to name any variable, file or program of the
// gateway's host. It keeps nothing and caches nothing, so that a rotated secret
// is used at the next login.
package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	maxSecret   = 64 << 10
	execTimeout = 10 * time.Second
)

// Secret is a credential. Every printed form of it is redacted; only Reveal tells.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal is the credential itself, for the target's login only.
func (s Secret) Reveal() string { return s.value }

func (Secret) String() string               { return "[redacted]" }
func (Secret) GoString() string             { return "[redacted]" }
func (Secret) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Format keeps every fmt verb from printing the value.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// Store resolves the references that it was made with, and no others.
type Store struct{ allowed []string }

// NewStore returns a store for exactly these references, each "env:NAME",
// "file:/absolute/path" or "exec:/absolute/program arg …" (split at spaces; no shell).
func NewStore(allowed []string) (*Store, error) {
	var problems []error
	for _, ref := range allowed {
		if err := Check(ref); err != nil {
			problems = append(problems, err)
		}
	}
	return &Store{allowed: allowed}, errors.Join(problems...)
}

// Check says whether a reference is well formed.
func Check(ref string) error {
	kind, rest, _ := strings.Cut(ref, ":")
	switch {
	case rest == "" || strings.ContainsAny(rest, "\x00\n\r"):
		return fmt.Errorf("credential %q: write env:NAME, file:/absolute/path or exec:/absolute/program", ref)
	case kind == "env" && !strings.ContainsAny(rest, "= "):
		return nil
	case (kind == "file" || kind == "exec") && filepath.IsAbs(rest):
		return nil
	}
	return fmt.Errorf("credential %q: write env:NAME, file:/absolute/path or exec:/absolute/program", ref)
}

// Resolve returns the secret behind a reference. Errors name the reference, never the value.
func (s *Store) Resolve(ctx context.Context, ref string) (Secret, error) {
	if !slices.Contains(s.allowed, ref) {
		return Secret{}, fmt.Errorf("credential %s is not listed under `credentials` in the gateway's configuration: add it there if this gateway may use it", ref)
	}
	return Resolve(ctx, ref)
}

// Resolve returns the secret behind any well-formed reference, for a person's
// own command line. A gateway uses a Store.
func Resolve(ctx context.Context, ref string) (Secret, error) {
	if err := Check(ref); err != nil {
		return Secret{}, err
	}
	kind, rest, _ := strings.Cut(ref, ":")
	value, err := read(ctx, kind, rest)
	if err != nil {
		return Secret{}, fmt.Errorf("credential %s: %w", ref, err)
	}
	value = strings.TrimRight(value, "\r\n")
	if value == "" {
		return Secret{}, fmt.Errorf("credential %s: it is empty", ref)
	}
	return Secret{value}, nil
}

func read(ctx context.Context, kind, rest string) (string, error) {
	switch kind {
	case "env":
		value, ok := os.LookupEnv(rest)
		if !ok {
			return "", errors.New("the variable is not set where gatewayd runs")
		}
		return value, nil
	case "file":
		return readFile(rest)
	}
	return run(ctx, rest)
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("it must be a regular file that others cannot read: chmod 0600 %s", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if len(b) > maxSecret {
		return "", errors.New("the file is larger than 64 KiB")
	}
	return string(b), err
}

func run(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	words := strings.Fields(line)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.WaitDelay = time.Second
	var out limited
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the program failed: %w", err) // its output may hold the secret
	}
	if out.full {
		return "", errors.New("the program printed more than 64 KiB")
	}
	return out.String(), nil
}

// limited keeps the first maxSecret bytes.
type limited struct {
	bytes.Buffer
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxSecret {
		l.full = true
		return len(p), nil
	}
	return l.Buffer.Write(p)
}
