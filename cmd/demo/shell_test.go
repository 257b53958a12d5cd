package main

import (
	"os/exec"
	"testing"
)

// TestShellWords lets a real shell read what the demo prints: it must be what the demo ran.
func TestShellWords(t *testing.T) {
	words := []string{"plain", "two words", `"quoted"`, "it's", "$HOME", "`date`", `back\slash`, "*", "", "a\nb", "x;y"}
	script := `for word in ` + shellWords(words) + `; do printf '%s\0' "$word"; done`
	out, err := exec.Command("/bin/sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, word := range words {
		want += word + "\x00"
	}
	if string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}
