package s3store

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c returns the checksum of body as the service wants it: base64 of the big-endian value.
func crc32c(body []byte) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(body, castagnoli))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var errDetached = errors.New("request has ended")

// A bodyReader reads a body that belongs to the caller of Put. net/http may read on after a request was given up;
// detach makes sure that it then finds nothing.
type bodyReader struct {
	size int64

	mu   sync.Mutex
	body []byte // guarded by mu; nil once detached
	off  int64  // guarded by mu
	done bool   // guarded by mu
}

func newBodyReader(body []byte) *bodyReader {
	return &bodyReader{body: body, size: int64(len(body))}
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return 0, errDetached
	}
	if r.off >= r.size {
		return 0, io.EOF
	}
	n := copy(p, r.body[r.off:])
	r.off += int64(n)
	return n, nil
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

// detach lets go of the caller's bytes.
func (r *bodyReader) detach() {
	r.mu.Lock()
	r.body, r.done = nil, true
	r.mu.Unlock()
}
