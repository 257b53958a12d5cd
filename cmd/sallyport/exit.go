package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes; `sallyport help exit-codes` prints the same.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitWarnings = 3
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of sallyport:

  0   it worked: nothing to complain about, the statement would be allowed
  1   it failed, was denied, or found problems (check, test, review, verify, explain, doctor)
  2   the command line is wrong; nothing was done
  3   doctor: nothing fails, but there are warnings

` + "`sallyport connect … -- COMMAND`" + ` ends with the exit code of COMMAND, 126 when it
cannot be run and 127 when there is no such command.`,
	}
}

// failure is an error that knows its exit code, and what to do about it.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage is a wrong command line.
func usage(format string, args ...any) error {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// hint adds a second line that says what to do.
func hint(err error, format string, args ...any) error {
	return &failure{code: exitFailed, err: err, hint: fmt.Sprintf(format, args...)}
}

// errQuiet ends with exit code 1 after the verb itself has said why.
var errQuiet = &failure{code: exitFailed, err: errors.New("")}

// exitWith ends with the code of a command that sallyport ran.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &failure{code: code, err: errors.New("")}
}

// report prints the error of a verb and returns its exit code.
func report(command *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	f := &failure{code: exitFailed, err: err}
	if !errors.As(err, &f) && isUsage(err) {
		f.code = exitUsage
	}
	text := strings.TrimRight(err.Error(), "\n")
	if text != "" {
		fmt.Fprintf(os.Stderr, "sallyport: %s\n", text)
	}
	if f.hint != "" {
		fmt.Fprintf(os.Stderr, "%s\n", f.hint)
	}
	if f.code == exitUsage && text != "" { // not the code of a command that sallyport ran
		fmt.Fprintf(os.Stderr, "usage: %s\n`%s --help` explains it with examples\n", command.UseLine(), command.CommandPath())
	}
	return f.code
}

// isUsage knows the errors that cobra makes itself.
func isUsage(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command") || strings.HasPrefix(err.Error(), "required flag")
}

// arguments checks the number of arguments and says what they are.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("missing %s", what)
		case most >= 0 && len(args) > most:
			return usage("unexpected argument %q", args[most])
		}
		return nil
	}
}

// need fails when one of the flags is empty.
func need(c *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := c.Flags().Lookup(name); f == nil || f.Value.String() == "" || f.Value.String() == "[]" {
			return usage("missing --%s: %s", name, f.Usage)
		}
	}
	return nil
}
