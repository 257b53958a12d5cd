package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

const (
	attestationsFolder = "approvals" // of the audit branch
	logFolder          = "releases"
)

// withAttestations is a tree with the attestations of the audit branch that the
// settings name, which count for as much as their signatures say. It comes unchanged
// when there are none. The error says why there may be some that cannot be read; the
// tree is good all the same.
//
// The settings have to be merged ones: those of a tree that somebody proposes must
// not make this machine fetch from anywhere.
func (r *accessRepo) withAttestations(ctx context.Context, tree fs.FS, settings *reviews.Config) (fs.FS, error) {
	files, err := r.attestations(ctx, settings)
	if err != nil || len(files) == 0 {
		return tree, err
	}
	return attestedTree{tree, newTreeFS(files)}, nil
}

// attestations are the approvals of pull requests that sync attested, by path; none
// when the settings name no forge.
func (r *accessRepo) attestations(ctx context.Context, settings *reviews.Config) (fstest.MapFS, error) {
	if settings == nil || settings.Spec.Forge.Kind == "" {
		return nil, nil
	}
	source, head, err := r.auditCommit(ctx, settings.Spec.Audit, settings.Spec.Repository)
	if err != nil {
		return nil, fmt.Errorf("the attested approvals: %w", err)
	}
	if head == "" {
		return nil, nil
	}
	return source.files(ctx, head, attestationsFolder)
}

// options are how a snapshot is judged: an auto_approve rule of its own policies counts where its settings say so.
func (s *snapshot) options(approvals reviews.ApprovalCheck) reviews.LoadOptions {
	return reviews.LoadOptions{Now: time.Now(), Approvals: approvals, AutoApprove: ci.AutoApproval(context.Background(), s.files)}
}

// mergedSettings are those of the newest merged commit, without reading anything
// else of it. Nobody need have approved them.
func (r *accessRepo) mergedSettings(ctx context.Context) (*reviews.Config, error) {
	find := func() (string, error) { return r.baseCommit(ctx, "auto", "") }
	if r.mirror != nil {
		find = func() (string, error) { return r.commitOf(ctx, "") }
	}
	commit, err := find()
	if err != nil {
		return nil, err
	}
	b, there := r.git.blob(ctx, commit, reviews.ConfigPath)
	if !there {
		return nil, errors.New("the merged branch has no " + reviews.ConfigPath)
	}
	return reviews.ParseConfig(reviews.ConfigPath, b)
}

// attestedTree is a tree whose attestations come from another one.
type attestedTree struct {
	fs.FS
	attestations fs.FS
}

func (t attestedTree) of(name string) fs.FS {
	if strings.HasPrefix(name, attestationsFolder+"/") {
		return t.attestations
	}
	return t.FS
}

func (t attestedTree) Open(name string) (fs.File, error)     { return t.of(name).Open(name) }
func (t attestedTree) Stat(name string) (fs.FileInfo, error) { return fs.Stat(t.of(name), name) }
func (t attestedTree) ReadFile(name string) ([]byte, error)  { return fs.ReadFile(t.of(name), name) }
func (t attestedTree) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(t.of(name), name)
}

// loggedSightings are when sync first saw the merged commits and attestations, as its log
// of releases has it: what release keys of their time signed about this branch.
func (r *accessRepo) loggedSightings(ctx context.Context, merged *snapshot, tree *reviews.Tree) ([]release.Taken, error) {
	source, head, err := r.auditCommit(ctx, tree.Config.Spec.Audit, tree.Config.Spec.Repository)
	if err != nil || head == "" {
		return nil, err
	}
	files, err := source.files(ctx, head, logFolder)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	trust, err := r.trustHistory(ctx, merged, tree.Root, nil)
	if err != nil {
		return nil, err
	}
	t := &auditTrail{}
	for _, f := range files {
		_ = t.logged(trust, tree.Config.Spec.Branch, f.Data) // others may put anything there
	}
	return t.taken, nil
}

// firstSeen is when sync first saw each commit of a first-parent line, newest first,
// as far as it is known.
func firstSeen(ids []string, taken []release.Taken) map[string]time.Time {
	reached := make(map[string]time.Time)
	for _, t := range taken {
		if known, is := reached[t.Commit]; t.Commit != "" && (!is || t.At.Before(known)) {
			reached[t.Commit] = t.At
		}
	}
	seen := make(map[string]time.Time)
	var at time.Time
	for _, id := range ids {
		if t, is := reached[id]; is && (at.IsZero() || t.Before(at)) {
			at = t
		}
		if !at.IsZero() {
			seen[id] = at
		}
	}
	return seen
}
