package s3store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tidemill/tidemill/internal/miniotest"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/s3store"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func configOf(m *miniotest.Server) s3store.Config {
	return s3store.Config{
		Bucket: m.Bucket, Prefix: "a/prefix", Endpoint: m.Endpoint, Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(m.AccessKey, m.SecretKey, ""),
	}
}

func open(t testing.TB, c s3store.Config) *s3store.Store {
	t.Helper()
	s, err := s3store.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestMinIO(t *testing.T) {
	m := miniotest.Start(t)
	s := open(t, configOf(m))
	if got := s.Checksums(); got != s3store.Header {
		t.Errorf("checksums: got %q, want %q", got, s3store.Header)
	}
	t.Run("contract", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) objectstore.Store { return s })
	})
	t.Run("contract of the hedged pair", func(t *testing.T) {
		second := s.Second()
		t.Cleanup(func() { _ = second.Close() })
		// With the least delay nearly every request is sent twice; the contract must not notice.
		o := objectstore.HedgeOptions{DelayMin: 1, ConflictWait: 10 * time.Second, ExtraMax: 1, ErrorsMax: 1}
		storetest.Run(t, func(*testing.T) objectstore.Store { return objectstore.Hedge(settling{s}, settling{second}, o) })
	})
	t.Run("probe", func(t *testing.T) {
		if err := objectstore.Probe(t.Context(), s); err != nil {
			t.Errorf("probe: %v", err)
		}
	})
	t.Run("open errors", func(t *testing.T) { testOpenErrors(t, m) })
	t.Run("bucket settings", func(t *testing.T) { testSettings(t, m, s) })
	t.Run("paused and killed", func(t *testing.T) { testOutage(t, m) })
}

func testOpenErrors(t *testing.T, m *miniotest.Server) {
	for _, c := range []struct {
		name   string
		change func(*s3store.Config)
		want   error
		text   string
	}{
		{"no such bucket", func(c *s3store.Config) { c.Bucket = "elsewhere" }, objectstore.ErrNoBucket, "no such bucket: create it"},
		{"wrong secret", func(c *s3store.Config) {
			c.Credentials = credentials.NewStaticCredentialsProvider(m.AccessKey, "wrong", "")
		}, objectstore.ErrDenied, "AWS_SECRET_ACCESS_KEY"},
		{"unknown key", func(c *s3store.Config) {
			c.Credentials = credentials.NewStaticCredentialsProvider("nobody", "wrong", "")
		}, objectstore.ErrDenied, "AWS_ACCESS_KEY_ID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := configOf(m)
			c.change(&config)
			_, err := s3store.Open(t.Context(), config)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("open: got error %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
}

// testSettings: a lifecycle rule that expires what a log needs is refused (G3), others are not.
func testSettings(t *testing.T, m *miniotest.Server, s *s3store.Store) {
	admin := s3.New(s3.Options{
		BaseEndpoint: &m.Endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(m.AccessKey, m.SecretKey, ""),
	})
	if warnings, err := s.CheckSettings(t.Context()); err != nil || len(warnings) != 0 {
		t.Errorf("no settings: %v, warnings %q", err, warnings)
	}
	for _, tc := range []struct {
		prefix  string
		refused bool
	}{{"", true}, {"a/", true}, {"a/prefix/wal/", true}, {"a/prefix/segment/", true}, {"a/prefix/probe/", false}, {"b/", false}} {
		_, err := admin.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
			Bucket: &m.Bucket,
			LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
				ID: aws.String("tidy"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: &tc.prefix},
				Expiration: &types.LifecycleExpiration{Days: aws.Int32(3)},
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CheckSettings(t.Context()); (err != nil) != tc.refused {
			t.Errorf("a rule for %q: %v, want refused: %v", tc.prefix, err, tc.refused)
		}
	}
	if _, err := admin.DeleteBucketLifecycle(t.Context(), &s3.DeleteBucketLifecycleInput{Bucket: &m.Bucket}); err != nil {
		t.Fatal(err)
	}
}

// A hung or dead service leaves the outcome open; the same bytes sent again settle it.
func testOutage(t *testing.T, m *miniotest.Server) {
	config := configOf(m)
	config.PutTimeout = time.Second
	impatient, patient := open(t, config), open(t, configOf(m))
	body := []byte("the same bytes")
	settle := func(key string) {
		t.Helper()
		if err := patient.Put(t.Context(), key, body); err != nil && !errors.Is(err, objectstore.ErrConflict) {
			t.Errorf("put again: got error %v, want none or %v", err, objectstore.ErrConflict)
		}
		if got, err := patient.Get(t.Context(), key); err != nil || string(got) != string(body) {
			t.Errorf("get: got %q, error %v", got, err)
		}
	}
	m.Pause()
	wantOnly(t, impatient.Put(t.Context(), "paused", body), objectstore.ErrAmbiguous)
	// More than a connection's buffers hold: the attempt hangs while it writes.
	wantOnly(t, impatient.Put(t.Context(), "paused large", make([]byte, 32<<20)), objectstore.ErrAmbiguous)
	m.Resume()
	settle("paused")

	m.Stop()
	wantOnly(t, impatient.Put(t.Context(), "killed", body), objectstore.ErrAmbiguous)
	m.Restart()
	settle("killed")
	settle("paused")
}

// settling lets the loser of two Puts end at the service before its caller goes on. One that is cut off there may land later,
// after a Delete too, which the contract would notice now and then.
type settling struct{ objectstore.Store }

func (s settling) Put(ctx context.Context, key string, body []byte) error {
	if ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	return s.Store.Put(ctx, key, body)
}
