// Package bucket is files by name in object storage that speaks S3. It is the
// only importer of gocloud.dev and of the AWS SDK.
//
// Credentials come from where AWS programs look for them (environment, profile,
// the machine's role) and from nowhere else: a location that could carry some is
// refused. What is read is not verified here.
package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
)

// Scheme begins the locations of buckets.
const Scheme = "s3://"

// patience is how long one change of the bucket, or a list, may take.
const patience = 5 * time.Minute

// Location is what a location says.
type Location struct {
	Bucket, Prefix string
	Endpoint       string // URL of a storage other than AWS; "" for AWS
	Region         string // "": as the environment or profile says
}

// Parse reads s3://bucket/prefix?endpoint=URL&region=NAME. The prefix and both
// parameters may be left out. An endpoint is https; http is for loopback only.
func Parse(location string) (Location, error) {
	const form = "write s3://bucket/prefix?endpoint=https://host&region=name; credentials come from the environment or profile"
	u, err := url.Parse(location)
	if err != nil || u.Scheme+"://" != Scheme || u.Host == "" || u.Opaque != "" {
		return Location{}, errors.New("this is not the location of a bucket: " + form) // err would repeat what may be a secret
	}
	if u.User != nil || u.Fragment != "" || u.Port() != "" {
		return Location{}, errors.New("the location of a bucket has no user, port or fragment: " + form)
	}
	l := Location{Bucket: u.Host, Prefix: strings.Trim(path.Clean("/"+u.Path), "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Location{}, errors.New("the location's query is malformed: " + form)
	}
	for key, values := range query {
		switch {
		case len(values) > 1:
			return Location{}, fmt.Errorf("the location has %s twice", key)
		case key == "endpoint":
			l.Endpoint = values[0]
		case key == "region":
			l.Region = values[0]
		default:
			return Location{}, errors.New("the location has a parameter besides endpoint and region: " + form)
		}
	}
	return l, l.checkEndpoint()
}

func (l Location) checkEndpoint() error {
	if l.Endpoint == "" {
		return nil
	}
	e, err := url.Parse(l.Endpoint)
	if err != nil || e.Hostname() == "" || e.User != nil || e.RawQuery != "" || e.Fragment != "" {
		return errors.New("the endpoint is not a URL of a host alone: write endpoint=https://host")
	}
	ip := net.ParseIP(e.Hostname())
	if e.Scheme != "https" && !(e.Scheme == "http" && (e.Hostname() == "localhost" || ip != nil && ip.IsLoopback())) {
		return fmt.Errorf("the endpoint %s is not https; http is for loopback only", e.Redacted())
	}
	return nil
}

// String is the location without its parameters.
func (l Location) String() string { return Scheme + path.Join(l.Bucket, l.Prefix) }

// Bucket is what lies under the prefix of one bucket. It is safe for concurrent use.
type Bucket struct {
	location Location
	blobs    *blob.Bucket
}

// Open makes ready to use a bucket; it is not contacted yet. ca are the authorities
// that the endpoint's certificate may come from, nil for those of AWS_CA_BUNDLE or
// the system.
func Open(ctx context.Context, l Location, ca *x509.CertPool) (*Bucket, error) {
	cfg, err := config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
		if l.Region != "" {
			o.Region = l.Region
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	if cfg.Region == "" && l.Endpoint != "" {
		cfg.Region = "us-east-1" // which others than AWS do not look at
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("%s: no region is known: write ?region= or set AWS_REGION", l)
	}
	// Many that speak S3 do not know the newer checksums.
	cfg.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	cfg.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	client, err := clientOf(cfg, ca)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.HTTPClient = client
		if l.Endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = aws.String(l.Endpoint), true
		}
	})
	blobs, err := s3blob.OpenBucket(ctx, api, l.Bucket, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	if l.Prefix != "" {
		blobs = blob.PrefixedBucket(blobs, l.Prefix+"/")
	}
	return &Bucket{l, blobs}, nil
}

// clientOf is the SDK's client as the environment has it, which follows nobody to
// another server.
func clientOf(cfg aws.Config, ca *x509.CertPool) (*http.Client, error) {
	configured, is := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !is && cfg.HTTPClient != nil {
		return nil, fmt.Errorf("an HTTP client of type %T cannot be used", cfg.HTTPClient)
	}
	if !is { // there is no AWS_CA_BUNDLE
		configured = awshttp.NewBuildableClient()
	}
	transport := configured.GetTransport()
	if ca != nil {
		if transport.TLSClientConfig == nil {
			transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		transport.TLSClientConfig.RootCAs = ca
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

func (b *Bucket) String() string { return b.location.String() }

// Get returns a file of at most limit bytes and its entity tag. A file that still
// has the tag unless is nil. One that is not there is fs.ErrNotExist.
func (b *Bucket) Get(ctx context.Context, name, unless string, limit int64) ([]byte, string, error) {
	r, err := b.blobs.NewReader(ctx, name, &blob.ReaderOptions{BeforeRead: func(as func(any) bool) error {
		var input *s3.GetObjectInput
		if unless != "" && as(&input) {
			input.IfNoneMatch = aws.String(unless)
		}
		return nil
	}})
	if status(err) == http.StatusNotModified {
		return nil, unless, nil
	}
	if err != nil {
		return nil, "", b.error(err)
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, "", fmt.Errorf("it is larger than %d bytes", limit)
	}
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, "", b.error(err)
	case int64(len(text)) > limit:
		return nil, "", fmt.Errorf("it is larger than %d bytes", limit)
	case r.Size() >= 0 && r.Size() != int64(len(text)):
		return nil, "", io.ErrUnexpectedEOF
	}
	var output s3.GetObjectOutput
	if !r.As(&output) {
		return text, "", nil
	}
	return text, aws.ToString(output.ETag), nil
}

// Put writes a file. Object storage shows the one before or this one, never a part.
func (b *Bucket) Put(ctx context.Context, name string, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := b.blobs.WriteAll(ctx, name, text, &blob.WriterOptions{ContentType: "application/octet-stream", CacheControl: "no-cache"})
	if err != nil {
		return fmt.Errorf("write %s to %s: %w", name, b, b.error(err))
	}
	return nil
}

// Replace is Put that writes only if the file still has the entity tag was, "" for
// none there; else it is fs.ErrExist. The storage decides: one that does not know
// conditional writes may not.
func (b *Bucket) Replace(ctx context.Context, name string, text []byte, was string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	options := &blob.WriterOptions{ContentType: "application/octet-stream", CacheControl: "no-cache", IfNotExist: was == ""}
	options.BeforeWrite = func(as func(any) bool) error {
		var input *transfermanager.UploadObjectInput
		if !as(&input) {
			return errors.New("this storage does not take conditional writes")
		}
		if was != "" {
			input.IfMatch = aws.String(was)
		}
		return nil
	}
	err := b.blobs.WriteAll(ctx, name, text, options)
	switch s := status(err); {
	case s == http.StatusPreconditionFailed, s == http.StatusConflict, was != "" && s == http.StatusNotFound:
		return fs.ErrExist
	case err != nil:
		return fmt.Errorf("write %s to %s: %w", name, b, b.error(err))
	}
	return nil
}

// List is the size of each file in a folder, by name.
func (b *Bucket) List(ctx context.Context, folder string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sizes := map[string]int64{}
	for list := b.blobs.List(&blob.ListOptions{Prefix: folder + "/", Delimiter: "/"}); ; {
		o, err := list.Next(ctx)
		if err == io.EOF {
			return sizes, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list %s of %s: %w", folder, b, b.error(err))
		}
		if !o.IsDir {
			sizes[o.Key] = o.Size
		}
	}
}

// Remove takes a file away; one that is not there is no error.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := b.error(b.blobs.Delete(ctx, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s of %s: %w", name, b, err)
	}
	return nil
}

// status is that of the answer that an error is about, 0 when there was none.
func status(err error) int {
	if answer := (*awshttp.ResponseError)(nil); errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// error says what the storage said, and what to do about it.
func (b *Bucket) error(err error) error {
	var said smithy.APIError
	if !errors.As(err, &said) {
		return err
	}
	switch said.ErrorCode() {
	case "NoSuchKey", "NotFound":
		return fs.ErrNotExist
	case "NoSuchBucket":
		return fmt.Errorf("there is no bucket %s: make it, or correct the location", b.location.Bucket)
	case "AccessDenied", "Forbidden":
		return errors.New("the storage denies access: allow s3:GetObject, s3:ListBucket (without it, files that are not there look forbidden) and, to publish, s3:PutObject and s3:DeleteObject")
	}
	if said.ErrorCode() != "" && status(err) != 0 {
		return fmt.Errorf("the storage answers %d %s: %s", status(err), said.ErrorCode(), said.ErrorMessage())
	}
	return err
}
