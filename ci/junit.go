package ci

import (
	"encoding/xml"
	"io"
)

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Line    int           `xml:"line,attr,omitempty"`
		Failure *junitFailure `xml:"failure"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit is the report as test results: one case for each finding, where an error
// has failed, and one for each example and test that passed.
func junit(w io.Writer, r *Report) error {
	findings := junitSuite{Name: "sallyport check"}
	for _, f := range r.Findings {
		c := junitCase{Name: line(f.Rule + ": " + f.Message), Class: line(f.File), File: line(f.File), Line: f.Line}
		if f.Severity == Error {
			c.Failure = &junitFailure{Message: line(f.Message), Type: f.Rule, Text: line(f.String())}
			findings.Failures++
		} else {
			c.Output = line(string(f.Severity) + ": " + f.String())
		}
		findings.Cases = append(findings.Cases, c)
	}
	if len(findings.Cases) == 0 {
		findings.Cases = []junitCase{{Name: line(conclusion(r)), Class: "sallyport"}}
	}
	examples := junitSuite{Name: "sallyport examples"}
	for _, o := range r.Outcomes {
		if o.Passed {
			examples.Cases = append(examples.Cases, junitCase{Name: line(o.Run), Class: line(o.File), File: line(o.File), Line: o.Line})
		}
	}
	all := junitSuites{Name: "sallyport"}
	for _, s := range []junitSuite{findings, examples} {
		s.Tests = len(s.Cases)
		all.Tests += s.Tests
		all.Failures += s.Failures
		if s.Tests > 0 {
			all.Suites = append(all.Suites, s)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
