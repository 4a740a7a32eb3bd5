package s3store

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"sync"

	"github.com/tidemill/tidemill/objectstore"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumText returns a CRC-32C as the service wants it: base64 of the big-endian value.
func checksumText(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

func crc32c(body []byte) uint32 { return crc32.Checksum(body, castagnoli) }

var errDetached = errors.New("request has ended")

// A bodyReader reads a body that belongs to the caller of Put. net/http may read on after a request was given up;
// detach makes sure that it then finds nothing.
type bodyReader struct {
	size int64
	// progress is called after each part that was taken, with how long the next may take. Optional.
	progress func(times int64)

	mu   sync.Mutex
	body [][]byte // guarded by mu; nil once detached
	off  int64    // guarded by mu
	done bool     // guarded by mu
}

func newBodyReader(body objectstore.Body) *bodyReader {
	return &bodyReader{body: body.Pieces, size: body.Size}
}

const (
	// partMax bounds what is handed to a connection at once: what is less than that within Config.PutTimeout counts for a stall.
	partMax = 128 << 10
	// A socket's buffer may hold bufferedMax when all of a body was taken: the answer then takes as long as that much does.
	bufferedMax  = 4 << 20
	bufferedPart = 1 << 20
)

// takenLocked notes that n bytes were taken.
func (r *bodyReader) takenLocked(n int64) {
	r.off += n
	switch {
	case r.progress == nil || n == 0:
	case r.off < r.size:
		r.progress(2) // a full socket takes more only when a third of its buffer is free
	default:
		r.progress(1 + min(r.size, bufferedMax)/bufferedPart)
	}
}

// restLocked returns the first piece with bytes from off on, less what lies before off, and the pieces behind it.
func (r *bodyReader) restLocked() (first []byte, others [][]byte) {
	skip := r.off
	for i, p := range r.body {
		if n := int64(len(p)); skip < n {
			return p[skip:], r.body[i+1:]
		}
		skip -= int64(len(p))
	}
	return nil, nil
}

// Read implements io.Reader for whoever encrypts or hashes the body on its way.
func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return 0, errDetached
	}
	first, others := r.restLocked()
	if first == nil {
		return 0, io.EOF
	}
	n := copy(p, first)
	for _, piece := range others {
		n += copy(p[n:], piece)
		if n == len(p) {
			break
		}
	}
	r.takenLocked(int64(n))
	return n, nil
}

// WriteTo implements io.WriterTo. To a TCP connection the pieces go from where they lie. It holds up detach until the
// write has ended, which is at the latest when the transport closes the connection of a request that was given up.
func (r *bodyReader) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return 0, errDetached
	}
	var written int64
	for part := r.partLocked(nil); len(part) > 0; part = r.partLocked(part[:0]) {
		rest := net.Buffers(part) // WriteTo consumes it
		n, err := rest.WriteTo(w)
		r.takenLocked(n)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// partLocked appends to part what is to be written next, at most partMax bytes.
func (r *bodyReader) partLocked(part [][]byte) [][]byte {
	first, others := r.restLocked()
	for left := partMax; left > 0 && first != nil; {
		piece := first[:min(left, len(first))]
		part = append(part, piece)
		left -= len(piece)
		if first = nil; len(others) > 0 {
			first, others = others[0], others[1:]
		}
	}
	return part
}

// Seek implements io.Seeker, which the client uses to learn the length and to hash before it sends.
func (r *bodyReader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	r.off = offset
	return offset, nil
}

// Close implements io.Closer for the transport; the body is the caller's.
func (r *bodyReader) Close() error { return nil }

// detach lets go of the caller's bytes.
func (r *bodyReader) detach() {
	r.mu.Lock()
	r.body, r.done = nil, true
	r.mu.Unlock()
}

// bodyKey is where the context of a Put carries its bodyReader past the SDK, which wraps bodies.
type bodyKey struct{}

// A conn takes bodies without the copy through a buffer that a net.TCPConn makes.
type conn struct{ *net.TCPConn }

// ReadFrom implements io.ReaderFrom, which net/http uses to send a body without encryption: it comes limited to its
// length.
func (c conn) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if body, ok := l.R.(*bodyReader); ok {
			n, err := body.WriteTo(c.TCPConn)
			l.N -= n
			return n, err
		}
	}
	return c.TCPConn.ReadFrom(r)
}
