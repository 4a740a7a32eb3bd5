package s3store

import (
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestBodyReader(t *testing.T) {
	body := []byte("a body of some length")
	if err := iotest.TestReader(newBodyReader(body), body); err != nil {
		t.Error(err)
	}
	r := newBodyReader(body)
	p := make([]byte, 4)
	if _, err := io.ReadFull(r, p); err != nil || string(p) != "a bo" {
		t.Errorf("read: got %q, error %v", p, err)
	}
	r.detach()
	if n, err := r.Read(p); n != 0 || !errors.Is(err, errDetached) {
		t.Errorf("read after detach: got %d bytes, error %v; want %v", n, err, errDetached)
	}
}
