//go:build !unix

package record

import (
	"errors"
	"io"
)

func lockFolder(string) (io.Closer, error) {
	return nil, errors.New("a gateway needs a Unix system: recording is not supported here yet")
}

func syncFolder(string) error { return nil }
