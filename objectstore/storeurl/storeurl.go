// Package storeurl opens the object store that a URL names.
//
// Invariants: it opens exactly what the URL says or fails with what to change; nothing falls back to another store.
package storeurl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/filestore"
	"github.com/tidemill/tidemill/objectstore/s3store"
)

// Options are the wrappers around an opened store. The zero value hedges with the defaults and keeps no metrics.
type Options struct {
	// Registerer gets the metrics; nil: none are kept.
	Registerer prometheus.Registerer
	// Hedge tunes second attempts; only stores behind a network get them.
	Hedge objectstore.HedgeOptions
}

// Kind names a driver.
type Kind string

// The kinds of store that a URL can name.
const (
	File Kind = "file"
	S3   Kind = "s3"
)

// A Description tells people what was opened.
type Description struct {
	Text      string // one line for the banner
	Kind      Kind
	Checksums string // who verifies bodies on their way, in words
	// Warnings are what a person should know about the store's settings.
	Warnings []string
}

// String returns the line for the banner.
func (d Description) String() string { return d.Text }

// Open opens the store that rawURL names and checks that it can be reached and used:
//
//	file:///path                 a local folder, created if absent
//	s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1&path-style=true
//
// S3 credentials come from the environment and files that the AWS tools use; path-style is true by default where an
// endpoint is given. The returned store is wrapped by Observe, and by Hedge where a network lies between. It implements
// io.Closer: close it after its last use. Errors wrap ErrDenied and ErrNoBucket where they apply, and errors of the URL
// name what was meant.
func Open(ctx context.Context, rawURL string, o Options) (objectstore.Store, Description, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, Description{}, fmt.Errorf("object store URL: %w", err)
	}
	if u.kind == File {
		return openFile(u, o)
	}
	return openS3(ctx, u, o)
}

// A closing store closes the drivers below its wrappers.
type closing struct {
	objectstore.Store
	drivers []io.Closer
}

// PutBody implements objectstore.BodyStore.
func (c closing) PutBody(ctx context.Context, key string, body objectstore.Body) error {
	return objectstore.PutBody(ctx, c.Store, key, body)
}

// Near implements objectstore.NearStore.
func (c closing) Near() bool { return objectstore.Near(c.Store) }

// ReadSummed implements objectstore.SummedStore.
func (c closing) ReadSummed(ctx context.Context, key string, p []byte, off int64) (uint32, error) {
	return objectstore.ReadSummed(ctx, c.Store, key, p, off)
}

func (c closing) Close() error {
	var errs []error
	for _, d := range c.drivers {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

func openFile(u parsed, o Options) (objectstore.Store, Description, error) {
	s, err := filestore.Open(u.folder)
	if err != nil {
		return nil, Description{}, err
	}
	text := "folder " + u.folder
	return closing{observe(s, o), []io.Closer{s}}, Description{Text: text, Kind: File, Checksums: "none on the way to a local disk"}, nil
}

func openS3(ctx context.Context, u parsed, o Options) (objectstore.Store, Description, error) {
	s, err := s3store.Open(ctx, u.s3)
	if err != nil {
		return nil, Description{}, err
	}
	warnings, err := s.CheckSettings(ctx)
	if err != nil {
		return nil, Description{}, errors.Join(err, s.Close())
	}
	second := s.Second()
	store := objectstore.Hedge(observe(s, o), observe(second, o), o.Hedge)
	text := fmt.Sprintf("bucket s3://%s at %s, checksums by %s", path.Join(u.s3.Bucket, u.s3.Prefix), s.Where(), s.Checksums())
	d := Description{Text: text, Kind: S3, Checksums: string(s.Checksums()), Warnings: warnings}
	return closing{store, []io.Closer{s, second}}, d, nil
}

func observe(s objectstore.Store, o Options) objectstore.Store {
	if o.Registerer == nil {
		return s
	}
	return objectstore.Observe(s, o.Registerer)
}

// parsed is a URL understood.
type parsed struct {
	kind   Kind
	folder string         // of File
	s3     s3store.Config // of S3
}

func parse(rawURL string) (parsed, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The text of a url.Error repeats the URL, which may hold a secret.
		reason := err
		if detail, ok := errors.AsType[*url.Error](err); ok {
			reason = detail.Err
		}
		return parsed{}, fmt.Errorf("not a URL: %w; write file:///path or s3://bucket/prefix", reason)
	}
	if u.User != nil {
		return parsed{}, errors.New("credentials do not belong in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
	}
	if u.Fragment != "" {
		return parsed{}, fmt.Errorf("%q after # means nothing here; write # as %%23", u.Fragment)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return parsed{}, fmt.Errorf("query: %w", err)
	}
	switch u.Scheme {
	case "file":
		return parseFile(u, query)
	case "s3":
		return parseS3(u, query)
	case "":
		return parsed{}, fmt.Errorf("%q names no scheme: write file:///path or s3://bucket/prefix", rawURL)
	default:
		return parsed{}, fmt.Errorf("unknown scheme %q%s: use file or s3", u.Scheme, didYouMean(u.Scheme, "file", "s3"))
	}
}

func parseFile(u *url.URL, query url.Values) (parsed, error) {
	if err := onlyKeys(query); err != nil {
		return parsed{}, err
	}
	if u.Host != "" && u.Host != "localhost" || u.Opaque != "" || u.Path == "" {
		return parsed{}, fmt.Errorf("%q: a folder needs an absolute path and three slashes, as in file:///var/lib/tidemill", u)
	}
	return parsed{kind: File, folder: path.Clean(u.Path)}, nil
}

func parseS3(u *url.URL, query url.Values) (parsed, error) {
	if err := onlyKeys(query, "endpoint", "region", "path-style"); err != nil {
		return parsed{}, err
	}
	if u.Host == "" || u.Opaque != "" {
		return parsed{}, errors.New("it names no bucket: write s3://bucket or s3://bucket/prefix")
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" && path.Clean(prefix) != prefix {
		return parsed{}, fmt.Errorf("prefix %q holds an empty part or dots, which S3 services refuse", prefix)
	}
	c := s3store.Config{Bucket: u.Host, Prefix: prefix, Endpoint: query.Get("endpoint"), Region: query.Get("region")}
	if c.Endpoint != "" {
		e, err := url.Parse(c.Endpoint)
		if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" {
			return parsed{}, fmt.Errorf("endpoint=%q: write a URL such as http://127.0.0.1:9000", c.Endpoint)
		}
	}
	c.PathStyle = c.Endpoint != ""
	if text := query.Get("path-style"); query.Has("path-style") {
		style, err := strconv.ParseBool(text)
		if err != nil {
			return parsed{}, fmt.Errorf("path-style=%q: write true or false", text)
		}
		c.PathStyle = style
	}
	return parsed{kind: S3, s3: c}, nil
}
