package s3store_test

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/s3store"
)

func TestReadOnlySendsNoWrite(t *testing.T) {
	s := newService(t)
	var writes atomic.Int64
	s.respond(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			writes.Add(1)
		}
		_, _ = io.WriteString(w, "<ListBucketResult/>")
	})
	store, err := s3store.OpenReadOnly(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := store.Get(t.Context(), "k"); err != nil || string(b) != "<ListBucketResult/>" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := store.Put(t.Context(), "k", nil); !errors.Is(err, objectstore.ErrReadOnly) {
		t.Errorf("put: %v", err)
	}
	if err := store.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
	if n := writes.Load(); n != 0 {
		t.Errorf("%d requests would write", n)
	}
	s.respond(func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "NoSuchBucket") })
	if _, err := s3store.OpenReadOnly(t.Context(), s.config()); !errors.Is(err, objectstore.ErrNoBucket) {
		t.Errorf("no bucket: %v", err)
	}
}
