// Package ci says what a change of an access repo must pass before it is
// merged, and prints that in the forms that people, editors and forges read.
//
// Check looks at one tree, Compare at what a branch would make of the merged
// documents. Compare takes every rule (trust root, settings, approval rules and
// policies) from the base alone, so that no change can loosen the rules that it is
// judged by.
//
// The invariant: a change without a finding of severity error, and without
// pending approvals, is one that sync will grant. What ci says binds nobody: the
// branch of a pull request can change its own workflow, so sync and gatewayd judge
// everything again after the merge.
//
// The package knows no git, no forge and no SQL: commits come in as fs.FS, and cmd
// injects what understands commands. Its tests also hold the architecture: which
// package may import which, and where each dependency has its one home.
package ci
