// Package policies decides whether a command may run. It holds the built-in Rego
// library that reads a review, adds the access repo's own rules to it, and answers
// each command with allow, deny or hold, with the rule and the reason.
//
// It does not know where documents and policies come from, whether they were
// approved, or whether a review is valid now: package reviews and the
// session core see to that. It is the only package that imports OPA.
//
// The invariant: only a complete evaluation that says "allow" allows. An
// undefined or malformed answer, an error of any builtin, a panic and a passed
// deadline all deny with the rule "policy_error". Rego sees its input and
// nothing else: no network, no clock, no environment.
//
// # Owners' rules
//
// Files policies/*.rego of the access repo are in package access and add to two sets of messages:
//
//	package access
//
//	deny contains "deletes wait until the migration is over" if {
//		some effect in input.command.effects
//		effect.verb == "delete"
//	}
//
//	hold contains msg if { … }
//
// They can only narrow what a review grants. They may read input and their own
// package. The Input type documents the input. Tests are in files
// policies/*_test.rego, in package access_test.
package policies

import (
	"embed"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

//go:embed library/decision.rego library/judgement.rego library/coverage.rego library/hosts.rego library/clusters.rego library/patterns.rego library/wording.rego
var libraryFiles embed.FS

// libraryPrefix names library files in bundles and in errors.
const libraryPrefix = "sallyport/library/"

// Library is the built-in Rego, by path within a bundle. It must not be changed.
var Library = sync.OnceValue(func() map[string][]byte {
	files := map[string][]byte{}
	names, err := fs.Glob(libraryFiles, "library/*.rego")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range names {
		b, err := libraryFiles.ReadFile(name)
		if err != nil {
			panic(err) // embedded files read
		}
		files[libraryPrefix+path.Base(name)] = b
	}
	return files
})

// Roots are the parts of `data` that the library and the owner's policies
// define, as a bundle's manifest lists them.
func Roots() []string {
	return []string{
		"access",
		"sallyport/clusters", "sallyport/coverage", "sallyport/decision", "sallyport/hosts", "sallyport/judgement", "sallyport/patterns", "sallyport/wording",
	}
}

// libraryModules parses the library anew: compilers change the modules they are given.
func libraryModules() map[string]*ast.Module {
	modules := map[string]*ast.Module{}
	for name, source := range Library() {
		m, err := ast.ParseModuleWithOpts(name, string(source), ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			panic(err) // a test compiles the library
		}
		modules[name] = m
	}
	return modules
}

func isTest(file string) bool { return strings.HasSuffix(file, "_test.rego") }
