// Package s3store keeps objects in a bucket of any S3 service that creates objects conditionally and atomically.
//
// Invariants: a Put is sent once (If-None-Match: *) and never repeated below us, so that a conflict can be told from an
// own earlier attempt; the service checks each body on its way, by the checksum in a header where it honours that,
// else by the signature; an attempt that makes no progress ends, one that does has all the time that its caller gives it;
// a read returns exactly the bytes asked for or fails.
package s3store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/objectstore"
)

// Checksums says how the service verifies a body before it stores it.
type Checksums string

const (
	// Header is a CRC-32C in a request header, beside an unsigned payload. Costs next to nothing.
	Header Checksums = "crc32c header"
	// Signed is the SHA-256 in the request's signature, about a CPU second per GB, for services that ignore the header.
	Signed Checksums = "signed payload"
)

// A Store is an objectstore.Store in a bucket. It is safe for concurrent use.
type Store struct {
	config    Config
	loaded    aws.Config
	conn      *connection
	checksums Checksums
	template  *template // of Puts; nil: the SDK makes them
}

var _ objectstore.BodyStore = (*Store)(nil)

// Second returns a Store of the same objects on connections of its own, for objectstore.Hedge. Close it too.
func (s *Store) Second() *Store {
	second := *s
	second.conn = connect(s.config, s.loaded)
	return &second
}

// Checksums says how bodies are verified; Open found out.
func (s *Store) Checksums() Checksums { return s.checksums }

// Where names the service, for people.
func (s *Store) Where() string {
	return cmp.Or(s.config.Endpoint, aws.ToString(s.loaded.BaseEndpoint), "AWS region "+s.config.Region)
}

// Close closes idle connections. Requests under way go on.
func (s *Store) Close() error {
	s.conn.transport.CloseIdleConnections()
	return nil
}

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	return s.PutBody(ctx, key, objectstore.Body{Pieces: [][]byte{body}, Size: int64(len(body)), CRC32C: crc32c(body)})
}

// PutBody implements objectstore.BodyStore.
func (s *Store) PutBody(ctx context.Context, key string, body objectstore.Body) error {
	ended := ctx
	ctx, patience := newPatience(ctx, s.config.PutTimeout)
	defer patience.release()
	reader := newBodyReader(body)
	reader.progress = patience.progress
	defer reader.detach()
	put := s.putByTemplate
	if s.template == nil || body.Size == 0 || !plain(s.config.Prefix+key) {
		put = func(ctx context.Context, key string, body *bodyReader, crc uint32) error {
			return s.putBySDK(ctx, key, body, crc)
		}
	}
	if err := put(ctx, key, reader, body.CRC32C); err != nil {
		return fmt.Errorf("put %s: %w", key, putError(ended, patience.explain(err)))
	}
	return nil
}

// bodyAttempts is how often bytes are asked for whose answer ends early. The SDK repeats what is not answered at all.
const bodyAttempts = 3

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string) (body []byte, err error) {
	for range bodyAttempts {
		var cut bool
		if body, cut, err = s.get(ctx, key); err == nil {
			return body, nil
		}
		if !cut || ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("get %s: %w", key, readError(ctx, err))
}

// get is one attempt; cut reports that the answer's body ended early.
func (s *Store) get(ctx context.Context, key string) (body []byte, cut bool, err error) {
	out, err := s.conn.retried.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.config.Prefix + key)})
	if err != nil {
		return nil, false, err
	}
	defer out.Body.Close()
	if out.ContentLength == nil || *out.ContentLength < 0 {
		return nil, false, errors.New("the service does not say the object's length")
	}
	body = make([]byte, *out.ContentLength)
	if _, err := readExactly(out.Body, body); err != nil {
		return nil, true, err
	}
	return body, false, nil
}

// ReadAt implements objectstore.Store.
func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if off < 0 || len(p) == 0 { // no range header can ask for nothing
		return s.checkRange(ctx, key, off)
	}
	rest, from := p, off
	var err error
	for range bodyAttempts {
		var n int
		var cut bool
		if n, cut, err = s.readAt(ctx, key, rest, from); err == nil {
			return nil
		}
		rest, from = rest[n:], from+int64(n) // what came is not asked for again: objects do not change
		if !cut || ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("read %s: %d bytes at %d: %w", key, len(p), off, readError(ctx, err))
}

// readAt is one attempt; cut reports that the answer's body ended early, after n bytes.
func (s *Store) readAt(ctx context.Context, key string, p []byte, off int64) (n int, cut bool, err error) {
	last := off + int64(len(p)) - 1
	out, err := s.conn.retried.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.config.Bucket, Key: aws.String(s.config.Prefix + key), Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, last)),
	})
	if err != nil {
		return 0, false, err
	}
	defer out.Body.Close()
	var first, end, size int64
	if _, err := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-%d/%d", &first, &end, &size); err != nil {
		return 0, false, fmt.Errorf("answered with range %q", aws.ToString(out.ContentRange))
	}
	if size <= last {
		return 0, false, fmt.Errorf("the object has %d: %w", size, objectstore.ErrRange)
	}
	if first != off || end != last || aws.ToInt64(out.ContentLength) != int64(len(p)) {
		return 0, false, fmt.Errorf("answered with %d bytes at %d", aws.ToInt64(out.ContentLength), first)
	}
	n, err = readExactly(out.Body, p)
	return n, err != nil, err
}

// checkRange answers a read of nothing, or from before the beginning.
func (s *Store) checkRange(ctx context.Context, key string, off int64) error {
	out, err := s.conn.retried.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.config.Prefix + key)})
	if status, _ := answer(err); status == http.StatusNotFound { // this answer has no body to say what is missing
		return fmt.Errorf("read %s: %w: %w", key, objectstore.ErrNotFound, err)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, readError(ctx, err))
	}
	if size := aws.ToInt64(out.ContentLength); off < 0 || off > size {
		return fmt.Errorf("read %s: at %d of %d: %w", key, off, size, objectstore.ErrRange)
	}
	return nil
}

// readExactly fills p from r, which must end there: a body cut short can still come with status 200.
func readExactly(r io.Reader, p []byte) (n int, err error) {
	n, err = io.ReadFull(r, p)
	if errors.Is(err, io.EOF) && len(p) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// List implements objectstore.Store, in pages of up to 1000 objects.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		input := &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: aws.String(s.config.Prefix + prefix)}
		switch {
		case strings.HasPrefix(after, prefix):
			input.StartAfter = aws.String(s.config.Prefix + after)
		case after > prefix: // and so after every key with prefix; some services refuse to be asked
			return
		}
		last := ""
		for more := true; more; {
			out, err := s.conn.retried.ListObjectsV2(ctx, input)
			if err != nil {
				yield(objectstore.Info{}, fmt.Errorf("list %s: %w", prefix, readError(ctx, err)))
				return
			}
			for _, o := range out.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), s.config.Prefix)
				if key <= last {
					yield(objectstore.Info{}, fmt.Errorf("list %s: the service lists %s after %s: it does not sort", prefix, key, last))
					return
				}
				last = key
				info := objectstore.Info{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}
				if !yield(info, nil) {
					return
				}
			}
			more = aws.ToBool(out.IsTruncated)
			input.ContinuationToken = out.NextContinuationToken
		}
	}
}

// deletesMax bounds the requests of one Delete in flight. Single deletes, because the batch call needs a checksum that
// services disagree about.
const deletesMax = 8

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %d objects: %w", len(keys), err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletesMax)
	for _, key := range keys {
		group.Go(func() error {
			_, err := s.conn.retried.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.config.Prefix + key)})
			if err = readError(ctx, err); err != nil && !errors.Is(err, objectstore.ErrNotFound) {
				return fmt.Errorf("delete %s: %w", key, err)
			}
			return nil
		})
	}
	return group.Wait()
}
