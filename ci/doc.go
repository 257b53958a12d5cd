// Package ci holds the rules that the code itself has to keep, as tests: which
// package may import which, and where each dependency has its one home.
package ci
