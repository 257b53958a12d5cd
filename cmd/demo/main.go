// Command demo plays the whole road of sallyport on real parts and shows each command with its output: git, SSH keys in a
// running ssh-agent, PostgreSQL, `sallyport sync` and gatewayd as processes of their own, psql as the client.
//
//	go run ./cmd/demo           play it and clean up
//	go run ./cmd/demo --keep    leave it running, and say how to connect with psql
//	go run ./cmd/demo --json    end with one JSON object on standard output; the story goes to standard error
//
// Every step asserts what it shows. A failed assertion ends the demo with exit code 1. Nothing is simulated, and nothing
// outside of a temporary folder and the cache of fetched programs is touched.
//
// Reading on: story.go is what happens, stage.go is what it happens on, shell.go runs and prints commands.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	keep := flag.Bool("keep", false, "leave it running until it is interrupted, and say how to connect")
	asJSON := flag.Bool("json", false, "end with one JSON object of figures and assertions on standard output")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unexpected argument %q; the flags are --keep and --json\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var out io.Writer = os.Stdout
	if *asJSON {
		out = os.Stderr
	}
	report := play(ctx, out, *keep)
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if !report.OK {
		os.Exit(1)
	}
}

// Report is what --json prints.
type Report struct {
	OK         bool        `json:"ok"`
	Error      string      `json:"error,omitempty"`
	Figures    Figures     `json:"figures"`
	Assertions []Assertion `json:"assertions"`
}

// Figures are what was measured, in milliseconds unless the name says otherwise. The PostgreSQL, git and disks are those of this machine.
type Figures struct {
	MergeToEnforced  float64 `json:"mergeToEnforcedMs"`  // push of the merge → the gateway has loaded the release
	RemovalToRelease float64 `json:"removalToReleaseMs"` // push of the removal → the new release is published
	RemovalToCut     float64 `json:"removalToCutMs"`     // push of the removal → the client has its 57P01
	ReleaseToCut     float64 `json:"releaseToCutMs"`     // the new release is published → the client has its 57P01
	CutToIdle        float64 `json:"cutToIdleMs"`        // the client has its 57P01 → the target runs nothing any more
	SecretsSearched  int     `json:"filesSearchedForTheCredential"`
	Seconds          float64 `json:"storySeconds"` // all of it, without building and setting the stage
}

// Assertion is one thing that was checked.
type Assertion struct {
	Step string `json:"step"`
	Says string `json:"says"`
	OK   bool   `json:"ok"`
}

// play sets the stage, plays every step until one fails, and cleans up.
func play(ctx context.Context, out io.Writer, keep bool) *Report {
	d := &demo{ctx: ctx, out: out, keep: keep, report: &Report{}}
	defer d.close()
	err := d.setStage()
	if err == nil {
		err = d.tell()
	}
	if err != nil {
		d.report.Error = err.Error()
		fmt.Fprintf(out, "\nThe demo failed: %v\n", err)
		d.printLogs()
		return d.report
	}
	d.report.OK = true
	fmt.Fprintf(out, "\nAll %d assertions hold. Played in %.1f s.\n", len(d.report.Assertions), d.report.Figures.Seconds)
	if keep {
		d.waitForInterrupt()
	}
	return d.report
}

// errAsserted ends a story whose failed assertions have been printed.
var errAsserted = errors.New("an assertion does not hold")

// tell plays the steps.
func (d *demo) tell() error {
	begin := time.Now()
	steps := story
	if d.keep {
		steps = append(steps, again)
	}
	for i, step := range steps {
		if err := d.ctx.Err(); err != nil {
			return fmt.Errorf("interrupted: %w", err)
		}
		d.step = step.title
		fmt.Fprintf(d.out, "\n%s\n", d.bold(fmt.Sprintf("%d. %s", i+1, step.title)))
		if err := step.play(d); err != nil {
			return err
		}
		if d.failed {
			return errAsserted
		}
	}
	d.report.Figures.Seconds = time.Since(begin).Seconds()
	return nil
}
