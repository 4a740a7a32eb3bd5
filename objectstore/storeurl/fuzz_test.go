package storeurl

import (
	"path"
	"strings"
	"testing"
)

// FuzzParseURL: a URL is one of a folder or of a bucket, whole, or an error; no error repeats a password.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"file:///var/lib/tidemill", "s3://bucket/prefix?endpoint=http://h:9000&region=r&path-style=true", "s3://key:hunter2@b",
		"file://host/x", "s3:///", "S3://b", "", "s3://b/a/../c", "s3://b?endpoint=%zz", "file:///%00", "://", "s3://b#x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		switch p.kind {
		case File:
			if !path.IsAbs(p.folder) {
				t.Errorf("folder %q", p.folder)
			}
		case S3:
			if p.s3.Bucket == "" || strings.Contains(p.s3.Prefix, "..") && path.Clean(p.s3.Prefix) != p.s3.Prefix {
				t.Errorf("bucket %q, prefix %q", p.s3.Bucket, p.s3.Prefix)
			}
		default:
			t.Errorf("kind %q", p.kind)
		}
	})
}
