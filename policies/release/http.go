package release

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
	"strings"
	"time"
)

// HTTPOptions say how a server is asked.
type HTTPOptions struct {
	// Token returns the bearer token, at each request; nil for none.
	Token func(context.Context) (string, error)
	// CA are the authorities that the server's certificate may come from. Default: the system's.
	CA *x509.CertPool
}

// HTTP is a release directory behind a web server that serves it as plain files.
type HTTP struct {
	base    *url.URL
	options HTTPOptions
	client  *http.Client
}

// NewHTTP takes an https URL of the directory; http is for loopback only. It has no
// user, query or fragment: credentials do not belong into locations.
func NewHTTP(location string, o HTTPOptions) (*HTTP, error) {
	base, err := url.Parse(location)
	switch {
	case err != nil:
		return nil, errors.New("the release's location is not a URL: write https://host/path") // err would repeat a password
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("the release's location has a user, query or fragment: write https://host/path, and name a token beside it")
	case base.Hostname() == "" || base.Opaque != "":
		return nil, errors.New("the release's location has no host: write https://host/path")
	case base.Scheme != "https" && !(base.Scheme == "http" && isLoopback(base.Hostname())):
		return nil, fmt.Errorf("release at %s: https is required; http is for loopback only", base.Redacted())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true // a limit counts the bytes that are sent
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.TLSClientConfig = &tls.Config{RootCAs: o.CA, MinVersion: tls.VersionTLS12}
	return &HTTP{base: base, options: o, client: &http.Client{Transport: transport, CheckRedirect: SameServer}}, nil
}

// SameServer is a redirect policy: nobody but the server that was named is asked.
func SameServer(next *http.Request, via []*http.Request) error {
	if first := via[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return fmt.Errorf("it redirects to another server, %s: name that one instead if it is the right one", next.URL.Host)
	}
	if len(via) > 3 {
		return errors.New("it redirects again and again")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (h *HTTP) String() string { return h.base.String() }

// Get asks for a file, by If-None-Match or If-Modified-Since when there is a tag to
// ask with.
func (h *HTTP) Get(ctx context.Context, name, unless string, limit int64) ([]byte, string, error) {
	b, tag, err := h.get(ctx, name, unless, limit)
	if err != nil {
		h.client.CloseIdleConnections() // the next attempt is not to wait on a dead one
	}
	return b, tag, err
}

func (h *HTTP) get(ctx context.Context, name, unless string, limit int64) ([]byte, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base.JoinPath(name).String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Cache-Control", "no-cache") // caches ask the server
	if since, is := strings.CutPrefix(unless, modified); is {
		req.Header.Set("If-Modified-Since", since)
	} else if unless != "" {
		req.Header.Set("If-None-Match", unless)
	}
	if h.options.Token != nil {
		token, err := h.options.Token(ctx)
		if err != nil {
			return nil, "", err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := h.client.Do(req)
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		err = failed.Err // who asked knows where
	}
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, unless, nil
	case http.StatusNotFound, http.StatusGone:
		return nil, "", fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, "", fmt.Errorf("the server answers %s: see that the token is right and may read this", res.Status)
	default:
		return nil, "", fmt.Errorf("the server answers %s", res.Status)
	}
	if res.ContentLength > limit {
		return nil, "", fmt.Errorf("it is larger than %d bytes", limit)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, "", err
	case int64(len(b)) > limit:
		return nil, "", fmt.Errorf("it is larger than %d bytes", limit)
	}
	return b, tagOf(res.Header), nil
}

// modified marks a tag that is a time.
const modified = "modified "

// tagOf is what a response can be recognised by. Times have seconds, and many
// servers make entity tags of a time and a size: both miss a second change within
// the second, so nothing counts that changed just before it was sent. Weak tags do
// not promise the same bytes.
func tagOf(h http.Header) string {
	at, err := http.ParseTime(h.Get("Last-Modified"))
	if err == nil {
		sent, err := http.ParseTime(h.Get("Date"))
		if err != nil || sent.Sub(at) < 2*time.Second {
			return ""
		}
	}
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	if err != nil {
		return ""
	}
	return modified + h.Get("Last-Modified")
}
