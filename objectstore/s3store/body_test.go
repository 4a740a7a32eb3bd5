package s3store

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/tidemill/tidemill/objectstore"
)

func TestBodyReader(t *testing.T) {
	body := []byte("a body of some length")
	pieces := [][]byte{body[:6], body[6:7], body[7:]}
	of := func() *bodyReader {
		return newBodyReader(objectstore.Body{Pieces: pieces, Size: int64(len(body))})
	}
	if err := iotest.TestReader(of(), body); err != nil {
		t.Error(err)
	}
	for off := range len(body) + 1 {
		r := of()
		var got bytes.Buffer
		_, _ = r.Seek(int64(off), io.SeekStart)
		if n, err := r.WriteTo(&got); n != int64(len(body)-off) || err != nil || got.String() != string(body[off:]) {
			t.Errorf("from %d: wrote %q, %d bytes, error %v", off, got.String(), n, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read behind what was written: got %d bytes, error %v", n, err)
		}
	}
	r := of()
	p := make([]byte, 4)
	if _, err := io.ReadFull(r, p); err != nil || string(p) != "a bo" {
		t.Errorf("read: got %q, error %v", p, err)
	}
	r.detach()
	if n, err := r.Read(p); n != 0 || !errors.Is(err, errDetached) {
		t.Errorf("read after detach: got %d bytes, error %v; want %v", n, err, errDetached)
	}
	if n, err := r.WriteTo(io.Discard); n != 0 || !errors.Is(err, errDetached) {
		t.Errorf("write after detach: wrote %d bytes, error %v; want %v", n, err, errDetached)
	}
}

// TestBodyProgress: a body goes in parts that show how far it is, and at its end has longer for what a socket may still hold.
func TestBodyProgress(t *testing.T) {
	const size = 2<<20 + 1
	for name, take := range map[string]func(*bodyReader) error{
		"to a connection": func(r *bodyReader) error { _, err := r.WriteTo(io.Discard); return err },
		"encrypted": func(r *bodyReader) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, partMax))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newBodyReader(objectstore.Body{Pieces: [][]byte{make([]byte, 1), nil, make([]byte, size-1)}, Size: size})
			var steps []int64
			r.progress = func(times int64) { steps = append(steps, times) }
			if err := take(r); err != nil {
				t.Fatal(err)
			}
			if n := len(steps); n < size/partMax+1 || n > size/partMax+2 || steps[0] != 2 || steps[n-1] != 3 {
				t.Errorf("progress %v, want %d steps of 2 and one of 3", steps, size/partMax)
			}
		})
	}
}
