package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sallyport-dev/sallyport/internal/peers"
)

// person is somebody who types commands: with a home, an ssh-agent and a clone of the access repo of their own.
type person struct {
	name  string // "alice"
	home  string
	clone string // where they type
	env   []string
	agent *peers.Agent
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
	ended          time.Time
}

func (r result) all() string { return r.stdout + r.stderr }

// run types one command as the person, in their clone, waits for it and prints both. A command that cannot be started
// at all ends with code -1 and the reason.
func (d *demo) run(p *person, words ...string) result {
	return d.runWith(p, "", words...)
}

// runWith is run with standard input, which is printed too.
func (d *demo) runWith(p *person, stdin string, words ...string) result {
	d.prompt(p, shellWords(words), stdin)
	r := d.quiet(p, stdin, words...)
	d.print(r.all())
	return r
}

// shell is run for a line that only a shell understands.
func (d *demo) shell(p *person, script string) result {
	d.prompt(p, script, "")
	r := d.quiet(p, "", "sh", "-c", script)
	d.print(r.all())
	return r
}

// quiet runs a command without showing it.
func (d *demo) quiet(p *person, stdin string, words ...string) result {
	ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
	defer cancel()
	cmd := d.command(ctx, p, words...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var r result
	err := cmd.Run()
	r.ended, r.stdout, r.stderr = time.Now(), stdout.String(), stderr.String()
	r.code = cmd.ProcessState.ExitCode()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		r.stderr += err.Error() + "\n"
	}
	p.saw(d, r.all())
	return r
}

// saw remembers what the agent was shown, for the search for secrets at the end.
func (p *person) saw(d *demo, text string) {
	if p == d.etl {
		d.etlSaw.WriteString(text)
	}
}

// command prepares a command line. Programs are looked up in the person's PATH, which begins with the binaries under test.
func (d *demo) command(ctx context.Context, p *person, words ...string) *exec.Cmd {
	program := words[0]
	switch program {
	case "sallyport", "gatewayd":
		program = d.path("bin", program)
	case "psql":
		program = d.psql.Path
	}
	cmd := exec.CommandContext(ctx, program, words[1:]...)
	cmd.Dir, cmd.Env = p.clone, p.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// begin starts a command whose end the story does not wait for at once. It is shown; its output is printed by whoever waits.
func (d *demo) begin(p *person, words ...string) <-chan result {
	d.prompt(p, shellWords(words)+" &", "")
	ended := make(chan result, 1)
	go func() { ended <- d.quiet(p, "", words...) }()
	return ended
}

func (d *demo) prompt(p *person, line, stdin string) {
	if stdin != "" {
		line += " <<'.'\n" + strings.TrimSuffix(stdin, "\n") + "\n."
	}
	fmt.Fprintf(d.out, "\n%s %s\n", d.bold(p.name+"$"), strings.ReplaceAll(line, "\n", "\n  "))
}

// print shows output, indented.
func (d *demo) print(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(d.out, "  %s\n", line)
	}
}

// edit changes a file in the person's clone as an editor would: it replaces one text, which must be there.
func (d *demo) edit(p *person, file, old, replacement string) error {
	path := filepath.Join(p.clone, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), old) {
		return fmt.Errorf("%s does not contain %q", path, old)
	}
	fmt.Fprintf(d.out, "\n%s edit %s\n", d.bold(p.name+"$"), file)
	for _, line := range strings.Split(replacement, "\n") {
		if line != old {
			d.print("+ " + strings.TrimSpace(line))
		}
	}
	return os.WriteFile(path, []byte(strings.Replace(string(text), old, replacement, 1)), 0o644)
}

// add is edit for a new line before one that is there.
func (d *demo) add(p *person, file, line, before string) error {
	return d.edit(p, file, before, line+"\n"+before)
}

// assert records and prints one assertion. The story goes on to the end of the step, so that the rest of what it shows is seen too.
func (d *demo) assert(ok bool, format string, args ...any) {
	says := fmt.Sprintf(format, args...)
	d.report.Assertions = append(d.report.Assertions, Assertion{Step: d.step, Says: says, OK: ok})
	mark := "ok"
	if !ok {
		mark, d.failed = "FAILED", true
	}
	fmt.Fprintf(d.out, "  %s %s\n", d.bold("["+mark+"]"), says)
}

// await looks again and again until ok, for at most the time given. The things awaited are other processes.
func (d *demo) await(what string, most time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(d.ctx, most)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		for _, daemon := range d.daemons {
			if err := daemon.process.Err(); err != nil {
				return fmt.Errorf("while waiting until %s: %w", what, err)
			}
		}
		select {
		case <-tick.C:
		case <-d.server.Done():
			return d.server.Err()
		case <-ctx.Done():
			return fmt.Errorf("it did not happen within %s that %s", most, what)
		}
	}
	return nil
}

// note prints a line of the storyteller.
func (d *demo) note(format string, args ...any) { fmt.Fprintf(d.out, "\n"+format+"\n", args...) }

func (d *demo) bold(text string) string {
	if file, ok := d.out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" {
		return "\x1b[1m" + text + "\x1b[0m"
	}
	return text
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellWords writes a command line as it would be typed.
func shellWords(words []string) string {
	typed := make([]string, len(words))
	for i, word := range words {
		typed[i] = word
		if !plainWord.MatchString(word) {
			typed[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(word) + `"`
		}
	}
	return strings.Join(typed, " ")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
