package metadata

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
)

// bucket holds one object; its first put is answered with err, before or after it was applied.
type bucket struct {
	objectstore.Store
	body  []byte
	err   error
	apply bool
}

func (b *bucket) Get(context.Context, string) ([]byte, error) {
	if b.body == nil {
		return nil, objectstore.ErrNotFound
	}
	return b.body, nil
}

func (b *bucket) Put(_ context.Context, _ string, body []byte) error {
	err := b.err
	if err == nil || b.apply {
		b.body = body
	}
	b.err = nil
	return err
}

func TestGuard(t *testing.T) {
	golden, err := os.ReadFile("testdata/cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	const id = "AAECAwQFBgcICQoLDA0ODw"
	for name, b := range map[string]*bucket{
		"new":                    {},
		"put lost":               {err: objectstore.ErrAmbiguous},
		"put applied, then lost": {err: objectstore.ErrAmbiguous, apply: true},
		"conflict with itself":   {err: objectstore.ErrConflict, apply: true},
		"there already":          {body: golden},
	} {
		t.Run(name, func(t *testing.T) {
			if err := EnsureGuard(t.Context(), b, id); err != nil {
				t.Fatal(err)
			}
			if string(b.body) != string(golden) {
				t.Errorf("got %s, want %s", b.body, golden)
			}
			err := EnsureGuard(t.Context(), b, "another")
			if !errors.Is(err, ErrForeignBucket) || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "another") {
				t.Errorf("got %v, want ErrForeignBucket naming both ids", err)
			}
		})
	}
	if err := EnsureGuard(t.Context(), &bucket{body: []byte("{}")}, id); err == nil || errors.Is(err, ErrForeignBucket) {
		t.Errorf("got %v for an empty guard", err)
	}
	if err := EnsureGuard(t.Context(), &bucket{err: objectstore.ErrDenied}, id); !errors.Is(err, objectstore.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
	}
}
