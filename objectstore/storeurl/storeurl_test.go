package storeurl_test

import (
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/internal/miniotest"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/storetest"
	"github.com/tidemill/tidemill/objectstore/storeurl"
)

func TestURLErrors(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"empty", "", "names no scheme: write file:///path or s3://bucket/prefix"},
		{"plain path", "/var/lib/x", "names no scheme"},
		{"near scheme", "s4://bucket", `unknown scheme "s4" (did you mean "s3"?)`},
		{"near file", "files:///x", `(did you mean "file"?)`},
		{"far scheme", "https://bucket.example", `unknown scheme "https": use file or s3`},
		{"memory is for tests", "mem:", `unknown scheme "mem"`},
		{"control character", "s3://bucket/\x7f", "not a URL"},
		{"relative folder", "file://folder/x", "three slashes"},
		{"opaque folder", "file:folder", "three slashes"},
		{"no folder", "file://", "three slashes"},
		{"folder settings", "file:///x?sync=false", "?sync=: a folder has no settings"},
		{"fragment", "file:///x#y", "means nothing here"},
		{"no bucket", "s3:///prefix", "names no bucket"},
		{"credentials", "s3://key:secret@bucket", "credentials do not belong in it"},
		{"near key", "s3://bucket?end-point=http://h", `unknown setting ?end-point= (did you mean "endpoint"?): it takes endpoint, region, path-style`},
		{"far key", "s3://bucket?acl=private", "unknown setting ?acl=: it takes"},
		{"underscore", "s3://bucket?path_style=true", `(did you mean "path-style"?)`},
		{"twice", "s3://bucket?region=a&region=b", "?region= is given 2 times"},
		{"empty value", "s3://bucket?region=", "?region= is empty"},
		{"endpoint without scheme", "s3://bucket?endpoint=127.0.0.1:9000", "write a URL such as"},
		{"endpoint scheme", "s3://bucket?endpoint=ftp://h", "write a URL such as"},
		{"path style", "s3://bucket?path-style=yes", "write true or false"},
		{"dots", "s3://bucket/a/../b", "holds an empty part or dots"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := storeurl.Open(t.Context(), c.url, storeurl.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("open %q: got error %v, want one with %q", c.url, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret@") {
				t.Errorf("open %q: the error tells the secret: %v", c.url, err)
			}
		})
	}
}

func open(t *testing.T, rawURL string, o storeurl.Options) (objectstore.Store, storeurl.Description) {
	t.Helper()
	s, d, err := storeurl.Open(t.Context(), rawURL, o)
	if err != nil {
		t.Fatalf("open %s: %v", rawURL, err)
	}
	t.Cleanup(func() {
		if err := s.(io.Closer).Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s, d
}

func TestFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "with space", "new")
	u := url.URL{Scheme: "file", Path: folder}
	_, d := open(t, u.String(), storeurl.Options{})
	if d.Kind != storeurl.File || d.String() != "folder "+folder {
		t.Errorf("description: got %+v", d)
	}
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		s, _ := open(t, u.String(), storeurl.Options{Registerer: prometheus.NewRegistry()})
		return s
	})
}

func TestFolderNotUsable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{file, file + "/below"} {
		_, _, err := storeurl.Open(t.Context(), "file://"+folder, storeurl.Options{})
		if !errors.Is(err, objectstore.ErrNoBucket) || !strings.Contains(err.Error(), file) {
			t.Errorf("open %s: got error %v, want %v naming the file", folder, err, objectstore.ErrNoBucket)
		}
	}
}

func TestBucket(t *testing.T) {
	m := miniotest.Start(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_REGION", "")
	rawURL := "s3://" + m.Bucket + "/prefix?endpoint=" + m.Endpoint

	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		_, _, err := storeurl.Open(t.Context(), rawURL, storeurl.Options{})
		if !errors.Is(err, objectstore.ErrDenied) || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
			t.Errorf("got error %v, want %v with what to set", err, objectstore.ErrDenied)
		}
	})
	t.Setenv("AWS_ACCESS_KEY_ID", m.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", m.SecretKey)
	t.Run("no region", func(t *testing.T) {
		_, _, err := storeurl.Open(t.Context(), "s3://"+m.Bucket, storeurl.Options{})
		if err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
			t.Errorf("got error %v, want one naming AWS_REGION", err)
		}
	})
	t.Run("open", func(t *testing.T) {
		registry := prometheus.NewRegistry()
		s, d := open(t, rawURL, storeurl.Options{Registerer: registry})
		want := "bucket s3://" + m.Bucket + "/prefix at " + m.Endpoint + ", checksums by crc32c header"
		if d.Kind != storeurl.S3 || d.String() != want || d.Checksums != "crc32c header" {
			t.Errorf("description: got %+v, want %q", d, want)
		}
		if err := s.Put(t.Context(), "key", []byte("body")); err != nil {
			t.Errorf("put: %v", err)
		}
		if families, err := registry.Gather(); err != nil || len(families) == 0 {
			t.Errorf("metrics: got %d families, error %v", len(families), err)
		}
	})
	t.Run("contract", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) objectstore.Store {
			s, _ := open(t, rawURL, storeurl.Options{})
			return s
		})
	})
}
