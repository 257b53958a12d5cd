// Vulns runs govulncheck on the module in the current folder and compares its findings with a list of known ones.
//
//	vulns GOVULNCHECK KNOWN
//
// It fails on a vulnerability that the code reaches and the list does not name, and on a line of the list that is not
// reported any more. Where the vulnerability database cannot be reached it says so and passes: being offline is no finding.
// GOVULNDB, when set, is the URL of another database (govulncheck -db).
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: vulns GOVULNCHECK KNOWN")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(govulncheck, list string) error {
	known, err := readKnown(list)
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	args := []string{"-format", "json"}
	if database := os.Getenv("GOVULNDB"); database != "" {
		args = append(args, "-db", database)
	}
	cmd := exec.Command(govulncheck, append(args, "./...")...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		// govulncheck's own words for a database that cannot be had; everything else is an error.
		if strings.Contains(stderr.String(), "fetching vulnerabilities:") {
			fmt.Printf("NOT CHECKED: the vulnerability database cannot be reached from here\n%s\n", strings.TrimSpace(stderr.String()))
			return nil
		}
		return fmt.Errorf("govulncheck: %w\n%s", err, stderr.String())
	}
	found, err := readFindings(&stdout)
	if err != nil {
		return err
	}
	return compare(found, known)
}

// finding is what is known about one vulnerability.
type finding struct {
	module  string
	reached bool // the code calls a vulnerable function
}

// readFindings reads govulncheck's stream of JSON messages.
func readFindings(r io.Reader) (map[string]finding, error) {
	found := map[string]finding{}
	messages := json.NewDecoder(r)
	for {
		var message struct {
			Finding *struct {
				OSV   string `json:"osv"`
				Trace []struct {
					Module   string `json:"module"`
					Function string `json:"function"`
				} `json:"trace"`
			} `json:"finding"`
		}
		err := messages.Decode(&message)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("output of govulncheck: %w", err)
		}
		if message.Finding == nil || len(message.Finding.Trace) == 0 {
			continue
		}
		first := message.Finding.Trace[0]
		old := found[message.Finding.OSV]
		found[message.Finding.OSV] = finding{module: first.Module, reached: old.reached || first.Function != ""}
	}
}

func readKnown(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			return nil, fmt.Errorf("%s:%d: %s has no reason; write why it may stand", path, i+1, id)
		}
		known[id] = reason
	}
	return known, nil
}

func compare(found map[string]finding, known map[string]string) error {
	var problems []string
	for id, f := range found {
		reason, isKnown := known[id]
		switch {
		case isKnown:
			fmt.Printf("known: %s in %s: %s\n", id, f.module, reason)
		case f.reached:
			problems = append(problems, fmt.Sprintf("%s in %s is reached by the code; update the module, or add the id with a reason to the list", id, f.module))
		default:
			fmt.Printf("not reached: %s in %s\n", id, f.module)
		}
	}
	for id := range known {
		if _, still := found[id]; !still {
			problems = append(problems, id+" is in the list but is not reported any more; remove the line (or the database is empty)")
		}
	}
	slices.Sort(problems)
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	return nil
}
