package main

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sallyport-dev/sallyport/ci"
	"github.com/sallyport-dev/sallyport/reviews"
)

// options are how a snapshot is judged: an auto_approve rule of its own policies counts where its settings say so.
func (s *snapshot) options(approvals reviews.ApprovalCheck) reviews.LoadOptions {
	return reviews.LoadOptions{Now: time.Now(), Approvals: approvals, AutoApprove: ci.AutoApproval(context.Background(), s.files)}
}

// attestations are the approvals of pull requests that sync attested, from the audit branch as this clone knows it; none when the
// settings name no forge, or another repository for them. Each is signed, so how it came here does not matter.
func (r *accessRepo) attestations(ctx context.Context, settings []byte) (fstest.MapFS, error) {
	config, err := reviews.ParseConfig(reviews.ConfigPath, settings)
	if err != nil || config.Spec.Forge.Kind == "" {
		return nil, nil // who loads the settings says what is wrong with them
	}
	if audit := config.Spec.Audit.Repository; audit != "" && audit != config.Spec.Repository {
		return nil, nil
	}
	git, commit, err := r.auditCommit(ctx, config.Spec.Audit, config.Spec.Repository)
	if err != nil {
		return nil, fmt.Errorf("the attested approvals: %w", err)
	}
	if commit == "" {
		return nil, nil
	}
	return git.files(ctx, commit, "approvals")
}

// attestedFS is the files of an access repo, and attestations in place of what they have under that name.
type attestedFS struct {
	fs.FS
	attestations fstest.MapFS
}

// withAttestations adds those that belong to the settings among the files.
func (r *accessRepo) withAttestations(ctx context.Context, files fs.FS) (fs.FS, error) {
	settings, err := fs.ReadFile(files, reviews.ConfigPath)
	if err != nil {
		return files, nil // who loads them says so
	}
	found, err := r.attestations(ctx, settings)
	if len(found) == 0 || err != nil {
		return files, err
	}
	return attestedFS{files, found}, nil
}

func (a attestedFS) of(name string) fs.FS {
	if strings.HasPrefix(name, "approvals/") {
		return a.attestations
	}
	return a.FS
}

// Open implements fs.FS.
func (a attestedFS) Open(name string) (fs.File, error) { return a.of(name).Open(name) }

// Stat implements fs.StatFS.
func (a attestedFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(a.of(name), name) }

// ReadFile implements fs.ReadFileFS.
func (a attestedFS) ReadFile(name string) ([]byte, error) { return fs.ReadFile(a.of(name), name) }

// ReadDir implements fs.ReadDirFS.
func (a attestedFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(a.of(name), name) }
