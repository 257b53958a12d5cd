//go:build !unix

package main

import "errors"

func diskSpace(string) (free, whole uint64, err error) {
	return 0, 0, errors.New("free space cannot be looked at on this system")
}
