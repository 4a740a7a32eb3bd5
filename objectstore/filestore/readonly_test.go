package filestore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
)

func TestReadOnly(t *testing.T) {
	root := t.TempDir()
	w, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := w.Put(ctx, "a/b", []byte("body")); err != nil {
		t.Fatal(err)
	}
	// What a crashed process left is not touched.
	left := filepath.Join(root, scratchName, "left"+lockSuffix)
	if err := os.WriteFile(left, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(root)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Get(ctx, "a/b"); err != nil || string(b) != "body" {
		t.Errorf("got %q, %v", b, err)
	}
	p := make([]byte, 2)
	if err := r.ReadAt(ctx, "a/b", p, 2); err != nil || string(p) != "dy" {
		t.Errorf("got %q, %v", p, err)
	}
	for info, err := range r.List(ctx, "", "") {
		if err != nil || info.Key != "a/b" {
			t.Errorf("listed %q, %v", info.Key, err)
		}
	}
	if err := r.Put(ctx, "c", nil); !errors.Is(err, objectstore.ErrReadOnly) {
		t.Errorf("put: %v", err)
	}
	if err := r.Delete(ctx, "a/b"); !errors.Is(err, objectstore.ErrReadOnly) {
		t.Errorf("delete: %v", err)
	}
	if c, ok := r.(interface{ Close() error }); !ok || c.Close() != nil {
		t.Error("it does not close")
	}
	if _, err := os.Stat(left); err != nil {
		t.Error(err)
	}
	if err := w.Put(ctx, "d", []byte("more")); err != nil {
		t.Errorf("the writer beside it: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	missing := filepath.Join(root, "missing")
	if _, err := OpenReadOnly(missing); !errors.Is(err, objectstore.ErrNoBucket) {
		t.Errorf("a missing folder: %v", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder was made: %v", err)
	}
	if _, err := OpenReadOnly(left); !errors.Is(err, objectstore.ErrNoBucket) {
		t.Errorf("a file: %v", err)
	}
}
