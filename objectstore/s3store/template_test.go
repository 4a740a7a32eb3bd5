package s3store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/tidemill/tidemill/objectstore"
)

// A scribe is a service that takes everything and writes down the requests for objects.
type scribe struct {
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	status   int
	says     string
	ahead    time.Duration // of this service's clock; a request signed 15 minutes off it is refused, as S3 does
}

func (s *scribe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Add(s.ahead)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	signed, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	switch {
	case now.Sub(signed).Abs() > 15*time.Minute:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<Error><Code>RequestTimeTooSkewed</Code></Error>")
	case r.URL.Query().Has("list-type"):
		fmt.Fprint(w, "<ListBucketResult></ListBucketResult>")
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Checksum-Crc32c") != checksumText(crc32c(body)):
		w.WriteHeader(http.StatusBadRequest)
	case r.Method == http.MethodPut:
		s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
		if s.status != 0 {
			w.WriteHeader(s.status)
			fmt.Fprint(w, s.says)
		}
	}
}

func openScribe(t *testing.T, token string) (*Store, *scribe) {
	t.Helper()
	service := &scribe{}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	s, err := Open(t.Context(), Config{
		Bucket: "bucket", Prefix: "a/prefix", Endpoint: server.URL, Region: "eu-west-3", PathStyle: true,
		Credentials: awscredentials.NewStaticCredentialsProvider("key", "secret", token),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	service.requests, service.bodies = nil, nil
	return s, service
}

// A Put from the template is the request that the SDK would have made.
func TestTemplate(t *testing.T) {
	for _, token := range []string{"", "a session token"} {
		s, service := openScribe(t, token)
		if s.template == nil {
			t.Fatal("no template was made")
		}
		body := objectstore.Body{Pieces: [][]byte{[]byte("the "), []byte("body")}, Size: 8, CRC32C: crc32c([]byte("the body"))}
		if err := s.PutBody(t.Context(), "wal/3f/0000", body); err != nil {
			t.Fatal(err)
		}
		if err := s.putBySDK(t.Context(), "wal/3f/0000", newBodyReader(body), body.CRC32C); err != nil {
			t.Fatal(err)
		}
		ours, sdks := service.requests[0], service.requests[1]
		if ours.Method != sdks.Method || ours.RequestURI != sdks.RequestURI || ours.Host != sdks.Host || service.bodies[0] != service.bodies[1] || service.bodies[0] != "the body" {
			t.Errorf("%s %s to %s with %q, the SDK's: %s %s to %s with %q", ours.Method, ours.RequestURI, ours.Host, service.bodies[0], sdks.Method, sdks.RequestURI, sdks.Host, service.bodies[1])
		}
		for _, h := range []http.Header{ours.Header, sdks.Header} {
			h.Del("X-Amz-Date")
			h.Del("Amz-Sdk-Invocation-Id")
			scope, signed, _ := strings.Cut(h.Get("Authorization"), "SignedHeaders=")
			signed, _, _ = strings.Cut(signed, ",")
			// The SDK signs the id of its attempt too.
			signed = strings.Replace(signed, "amz-sdk-invocation-id;", "", 1)
			h.Set("Authorization", scope+signed)
		}
		if !maps.EqualFunc(ours.Header, sdks.Header, slices.Equal) {
			t.Errorf("headers\n%v, the SDK's\n%v", ours.Header, sdks.Header)
		}
		if got := ours.Header.Get("X-Amz-Security-Token"); got != token {
			t.Errorf("session token %q, want %q", got, token)
		}
	}
}

// What a service answers means the same on both ways.
func TestTemplateOutcomes(t *testing.T) {
	s, service := openScribe(t, "")
	for _, tt := range []struct {
		status int
		says   string
		want   error
	}{
		{http.StatusPreconditionFailed, "<Error><Code>PreconditionFailed</Code><Message>m</Message></Error>", objectstore.ErrConflict},
		{http.StatusPreconditionFailed, "", objectstore.ErrConflict},
		{http.StatusServiceUnavailable, "<Error><Code>SlowDown</Code></Error>", objectstore.ErrAmbiguous},
		{http.StatusInternalServerError, "not XML", objectstore.ErrAmbiguous},
		{http.StatusForbidden, "<Error><Code>AccessDenied</Code></Error>", objectstore.ErrDenied},
		{http.StatusBadRequest, "<Error><Code>ExpiredToken</Code></Error>", objectstore.ErrDenied},
		{http.StatusNotFound, "<Error><Code>NoSuchBucket</Code></Error>", objectstore.ErrNoBucket},
		{http.StatusTemporaryRedirect, "", objectstore.ErrAmbiguous},
		{http.StatusMovedPermanently, "<Error><Code>PermanentRedirect</Code></Error>", objectstore.ErrNoBucket},
	} {
		service.status, service.says = tt.status, tt.says
		for _, key := range []string{"plain", "not plain:"} { // the second goes by the SDK
			if err := s.Put(t.Context(), key, []byte("x")); !errors.Is(err, tt.want) {
				t.Errorf("%s: status %d with %q: got error %v, want %v", key, tt.status, tt.says, err, tt.want)
			}
		}
	}
}

// A clock that is set wrong while the broker runs, or right again, costs one Put and not all of them.
func TestTemplateClock(t *testing.T) {
	for _, key := range []string{"plain", "not plain:"} { // the second goes by the SDK
		s, service := openScribe(t, "")
		for _, ahead := range []time.Duration{time.Hour, 0, -time.Hour} {
			service.mu.Lock()
			service.ahead = ahead
			service.mu.Unlock()
			if err := s.Put(t.Context(), key, []byte("x")); !errors.Is(err, objectstore.ErrDenied) {
				t.Errorf("%s: %v ahead: got error %v, want %v", key, ahead, err, objectstore.ErrDenied)
			}
			if err := s.Put(t.Context(), key, []byte("x")); err != nil {
				t.Errorf("%s: %v ahead: the second Put: %v", key, ahead, err)
			}
		}
	}
}

func TestPlain(t *testing.T) {
	for key, want := range map[string]bool{
		"wal/3f/0/0000-a_b.c": true, "a": true, "": false, "a//b": false, "../a": false, "a/..": false, "a/.../b": false, "a b": false, "a+b": false, "ä": false, "a%b": false,
		"a?b": false, "a/": false, "/a": false,
	} {
		if got := plain(key); got != want {
			t.Errorf("%q: %v, want %v", key, got, want)
		}
	}
}
