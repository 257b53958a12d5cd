//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskSpace is what a folder's file system has free for us, and in all, in bytes.
func diskSpace(folder string) (free, whole uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", folder, err)
	}
	return uint64(s.Bavail) * uint64(s.Bsize), uint64(s.Blocks) * uint64(s.Bsize), nil
}
