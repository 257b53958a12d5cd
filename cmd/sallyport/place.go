package main

import (
	"context"
	"strings"

	"github.com/sallyport-dev/sallyport/bucket"
	"github.com/sallyport-dev/sallyport/policies/release"
)

// releaseTarget is where a release is published: a directory or a bucket.
func releaseTarget(ctx context.Context, location string) (release.Target, error) {
	if strings.HasPrefix(location, bucket.Scheme) {
		l, err := bucket.Parse(location)
		if err != nil {
			return nil, usage("%s", err)
		}
		return bucket.Open(ctx, l, nil)
	}
	if strings.Contains(location, "://") {
		return nil, usage("a release is written to a directory, which a web server may serve, or to s3://bucket/prefix")
	}
	return release.Folder(location), nil
}

// releaseSource is where a release is read: also behind a web server.
func releaseSource(ctx context.Context, location string) (release.Source, error) {
	if strings.HasPrefix(location, "https://") || strings.HasPrefix(location, "http://") {
		from, err := release.NewHTTP(location, release.HTTPOptions{})
		if err != nil {
			return nil, usage("%s", err)
		}
		return from, nil
	}
	return releaseTarget(ctx, location)
}
