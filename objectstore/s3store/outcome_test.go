package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/s3store"
)

// A service is a scripted S3 that lets Open pass and then answers as told.
type service struct {
	*httptest.Server
	ignoresChecksums bool
	answer           atomic.Pointer[http.HandlerFunc]
	requests         atomic.Int64 // that answer got
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if answer := s.answer.Load(); answer != nil {
			s.requests.Add(1)
			(*answer)(w, r)
			return
		}
		switch {
		case r.Method == http.MethodGet:
			_, _ = io.WriteString(w, "<ListBucketResult/>")
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case !s.ignoresChecksums && string(body) == "these bytes" && r.Header.Get("x-amz-checksum-crc32c") != crcOfTheseBytes:
			refuse(w, http.StatusBadRequest, "XAmzContentChecksumMismatch")
		}
	}))
	t.Cleanup(s.Close)
	return s
}

const crcOfTheseBytes = "z3L/bw=="

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>scripted</Message></Error>", code)
}

func (s *service) config() s3store.Config {
	return s3store.Config{
		Bucket: "bucket", Endpoint: s.URL, Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
}

func (s *service) respond(h http.HandlerFunc) {
	s.requests.Store(0)
	s.answer.Store(&h)
}

// drop closes the connection, as a reset or a proxy would.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close() // that is all there is to say
	}
}

func TestPutOutcomes(t *testing.T) {
	s := newService(t)
	store := open(t, s.config())
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   error
	}{
		{"200", func(http.ResponseWriter, *http.Request) {}, nil},
		{"412", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 412, "PreconditionFailed") }, objectstore.ErrConflict},
		{"409", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 409, "ConditionalRequestConflict") }, objectstore.ErrAmbiguous},
		{"request timeout", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "RequestTimeout") }, objectstore.ErrAmbiguous},
		{"damaged on its way", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "BadDigest") }, objectstore.ErrAmbiguous},
		{"500", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "InternalError") }, objectstore.ErrAmbiguous},
		{"502 of a proxy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) }, objectstore.ErrAmbiguous},
		{"503", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "SlowDown") }, objectstore.ErrAmbiguous},
		{"504", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "late", http.StatusGatewayTimeout) }, objectstore.ErrAmbiguous},
		{"connection lost", func(w http.ResponseWriter, _ *http.Request) { drop(w) }, objectstore.ErrAmbiguous},
		{"403", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "AccessDenied") }, objectstore.ErrDenied},
		{"clock skew", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "RequestTimeTooSkewed") }, objectstore.ErrDenied},
		{"expired token", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "ExpiredToken") }, objectstore.ErrDenied},
		{"no such bucket", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "NoSuchBucket") }, objectstore.ErrNoBucket},
		{"507", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 507, "XMinioStorageFull") }, objectstore.ErrNoBucket},
		{"501", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 501, "NotImplemented") }, objectstore.ErrNoBucket},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.respond(c.answer)
			err := store.Put(t.Context(), "key", []byte("body"))
			wantOnly(t, err, c.want)
			if got := s.requests.Load(); got != 1 {
				t.Errorf("put sent %d requests, want 1", got)
			}
		})
	}
}

// wantOnly checks that err is want and no other sentinel.
func wantOnly(t *testing.T, err, want error) {
	t.Helper()
	if (err == nil) != (want == nil) {
		t.Errorf("got error %v, want %v", err, want)
	}
	for _, sentinel := range []error{
		objectstore.ErrConflict, objectstore.ErrAmbiguous, objectstore.ErrDenied, objectstore.ErrNoBucket,
		objectstore.ErrNotFound, objectstore.ErrRange,
	} {
		if got := errors.Is(err, sentinel); got != errors.Is(want, sentinel) {
			t.Errorf("got error %v, want %v; is it %q: %v", err, want, sentinel, got)
		}
	}
}

func TestPutDeadline(t *testing.T) {
	s := newService(t)
	config := s.config()
	config.PutTimeout = 50 * time.Millisecond
	store, patient := open(t, config), open(t, s.config())
	s.respond(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	err := store.Put(t.Context(), "key", []byte("body"))
	wantOnly(t, err, objectstore.ErrAmbiguous)

	ctx, cancel := context.WithCancel(t.Context())
	s.respond(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	err = patient.Put(ctx, "key", []byte("body"))
	wantOnly(t, err, objectstore.ErrAmbiguous)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("put of a caller who left: got error %v, want %v too", err, context.Canceled)
	}
}

func TestPutRequest(t *testing.T) {
	for _, c := range []struct {
		name    string
		ignores bool
		want    s3store.Checksums
		payload func(string) bool
		crc     string
	}{
		{"service checks", false, s3store.Header, func(p string) bool { return p == "UNSIGNED-PAYLOAD" }, crcOfTheseBytes},
		{"service ignores", true, s3store.Signed, func(p string) bool { return len(p) == 64 }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newService(t)
			s.ignoresChecksums = c.ignores
			config := s.config()
			config.Prefix = "/p/"
			store := open(t, config)
			if got := store.Checksums(); got != c.want {
				t.Errorf("checksums: got %q, want %q", got, c.want)
			}
			requests := make(chan *http.Request, 1)
			s.respond(func(_ http.ResponseWriter, r *http.Request) { requests <- r })
			if err := store.Put(t.Context(), "key", []byte("these bytes")); err != nil {
				t.Fatalf("put: %v", err)
			}
			r := <-requests
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != "these bytes" || r.URL.Path != "/bucket/p/key" {
				t.Errorf("put %s: got body %q, error %v", r.URL.Path, body, err)
			}
			h := r.Header
			if h.Get("If-None-Match") != "*" || h.Get("x-amz-checksum-crc32c") != c.crc || !c.payload(h.Get("x-amz-content-sha256")) {
				t.Errorf("headers: got %v", h)
			}
			if h.Get("Expect") != "" || h.Get("Content-Encoding") != "" || r.ContentLength != 11 {
				t.Errorf("put must go in one plain piece: got %v of length %d", h, r.ContentLength)
			}
		})
	}
}

func TestReadOutcomes(t *testing.T) {
	s := newService(t)
	store := open(t, s.config())
	ranged := func(contentRange, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, body)
		}
	}
	truncated := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.Header().Set("Content-Range", "bytes 0-9/20")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "01234")
		_ = http.NewResponseController(w).Flush() // the client must see the beginning
		drop(w)
	}
	other := errors.New("neither sentinel")
	for _, c := range []struct {
		name     string
		answer   http.HandlerFunc
		want     error
		requests int64
	}{
		{"exact", ranged("bytes 0-9/20", "0123456789"), nil, 1},
		{"not found", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "NoSuchKey") }, objectstore.ErrNotFound, 1},
		{"404 of a proxy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no route", 404) }, other, 1},
		{"no bucket", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "NoSuchBucket") }, objectstore.ErrNoBucket, 1},
		{"denied", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "AccessDenied") }, objectstore.ErrDenied, 1},
		{"beyond the end", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 416, "InvalidRange") }, objectstore.ErrRange, 1},
		{"over the end", ranged("bytes 0-7/8", "01234567"), objectstore.ErrRange, 1},
		{"shifted", ranged("bytes 1-10/20", "0123456789"), other, 1},
		{"short", ranged("bytes 0-4/20", "01234"), other, 1},
		{"range ignored", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0123456789") }, other, 1},
		{"body cut, and the rest shifted", truncated, other, 2},
		{"500 is tried 3 times", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "InternalError") }, other, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.respond(c.answer)
			p := make([]byte, 10)
			err := store.ReadAt(t.Context(), "key", p, 0)
			wantOnly(t, err, c.want)
			if got := s.requests.Load(); got != c.requests {
				t.Errorf("read sent %d requests, want %d", got, c.requests)
			}
		})
	}
	s.respond(truncated)
	if body, err := store.Get(t.Context(), "key"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("get of a cut body: got %q, error %v; want %v", body, err, io.ErrUnexpectedEOF)
	}
}

func TestOpenOutcomes(t *testing.T) {
	for _, c := range []struct {
		name, code, text string
		status           int
		want             error
	}{
		{"no such bucket", "NoSuchBucket", "no such bucket: create it", 404, objectstore.ErrNoBucket},
		{"other region", "PermanentRedirect", "correct ?region=", 301, objectstore.ErrNoBucket},
		{"other region by signature", "AuthorizationHeaderMalformed", "correct ?region=", 400, objectstore.ErrDenied},
		{"unknown key", "InvalidAccessKeyId", "correct AWS_ACCESS_KEY_ID", 403, objectstore.ErrDenied},
		{"clock", "RequestTimeTooSkewed", "clock is wrong", 403, objectstore.ErrDenied},
		{"denied", "AccessDenied", "allow s3:ListBucket", 403, objectstore.ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newService(t)
			s.respond(func(w http.ResponseWriter, _ *http.Request) { refuse(w, c.status, c.code) })
			_, err := s3store.Open(t.Context(), s.config())
			wantOnly(t, err, c.want)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got error %v, want one with %q", err, c.text)
			}
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		s := newService(t)
		s.Close()
		_, err := s3store.Open(t.Context(), s.config())
		if err == nil || !strings.Contains(err.Error(), s.URL+" does not answer: start it") {
			t.Errorf("got error %v, want one that says so", err)
		}
	})
	t.Run("busy at first", func(t *testing.T) {
		s := newService(t)
		s.respond(func(w http.ResponseWriter, r *http.Request) {
			switch n := s.requests.Load(); {
			case r.Method == http.MethodGet:
				_, _ = io.WriteString(w, "<ListBucketResult/>")
			case r.Method == http.MethodDelete:
				w.WriteHeader(http.StatusNoContent)
			case n%2 == 0: // after the list: each question is answered at the second attempt
				refuse(w, 503, "SlowDown")
			case r.Header.Get("x-amz-checksum-crc32c") != crcOfTheseBytes:
				refuse(w, 400, "BadDigest")
			}
		})
		if got := open(t, s.config()).Checksums(); got != s3store.Header {
			t.Errorf("checksums: got %q, want %q", got, s3store.Header)
		}
	})
	t.Run("read only", func(t *testing.T) {
		s := newService(t)
		s.respond(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				refuse(w, 403, "AccessDenied")
				return
			}
			_, _ = io.WriteString(w, "<ListBucketResult/>")
		})
		_, err := s3store.Open(t.Context(), s.config())
		wantOnly(t, err, objectstore.ErrDenied)
	})
}

func TestCredentialsLost(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	s := newService(t)
	config := s.config()
	var lost atomic.Bool
	config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		if lost.Load() {
			return aws.Credentials{}, errors.New("metadata service is away")
		}
		// Expired at once, so that each request asks again.
		return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret", CanExpire: true, Expires: time.Now()}, nil
	})
	store := open(t, config)
	lost.Store(true)
	wantOnly(t, store.Put(t.Context(), "key", []byte("body")), objectstore.ErrDenied)
	_, err := store.Get(t.Context(), "key")
	wantOnly(t, err, objectstore.ErrDenied)
}
