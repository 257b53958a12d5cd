package ci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// The parts of SARIF 2.1.0 that a report needs.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
		// Columns of positions count characters, not bytes or UTF-16 units.
		ColumnKind string `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               Severity          `json:"level"` // SARIF has the same three words
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI       string `json:"uri"`
		URIBaseID string `json:"uriBaseId"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
)

func sarif(r *Report, program string) sarifLog {
	driver := sarifDriver{Name: "sallyport", Version: program}
	index := make(map[string]int)
	for _, id := range sorted(rules) {
		index[id] = len(driver.Rules)
		driver.Rules = append(driver.Rules, sarifRule{ID: id, ShortDescription: sarifText{rules[id]}})
	}
	results := []sarifResult{}
	seen := make(map[string]int)
	for _, f := range r.Findings {
		message := f.Message
		if f.Fix != "" {
			message += "\n" + f.Fix
		}
		results = append(results, sarifResult{
			RuleID: f.Rule, RuleIndex: index[f.Rule], Level: f.Severity, Message: sarifText{visible(message)},
			Locations:           []sarifLocation{{locationOf(f)}},
			PartialFingerprints: map[string]string{"sallyport/v1": fingerprint(f, seen)},
		})
	}
	return sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{{Tool: sarifTool{driver}, Results: results, ColumnKind: "unicodeCodePoints"}},
	}
}

// locationOf gives a finding that has no file to the trust root, since a result
// without a location is dropped by some readers.
func locationOf(f Finding) sarifPhysical {
	file := f.File
	if file == "" {
		file = "trust/root.yaml"
	}
	p := sarifPhysical{ArtifactLocation: sarifArtifact{URI: (&url.URL{Path: strings.TrimLeft(file, "/")}).EscapedPath(), URIBaseID: "%SRCROOT%"}}
	if f.Line > 0 {
		p.Region = &sarifRegion{StartLine: f.Line, StartColumn: f.Column}
	}
	return p
}

// fingerprint tells findings apart across commits: it does not depend on lines,
// which move, and numbers those that are otherwise the same.
func fingerprint(f Finding, seen map[string]int) string {
	id := f.Rule + "\x00" + f.File + "\x00" + f.Message
	n := seen[id]
	seen[id]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", id, n))
	return hex.EncodeToString(sum[:16])
}
