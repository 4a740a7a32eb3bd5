package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInspectVerb(t *testing.T) {
	dir := shortDir(t)
	b := runOn(t, dir)
	b.create("a")
	b.segmented("keyed")
	b.write("a", 20)
	b.end()
	bucket := filepath.Join(dir, "bucket")
	key := func(pattern string, fromEnd int) string {
		files, err := filepath.Glob(filepath.Join(bucket, pattern))
		if err != nil || len(files) < fromEnd {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		return strings.TrimSuffix(strings.TrimPrefix(files[len(files)-fromEnd], bucket+"/"), ".obj")
	}
	slot, segment, manifest := key("wal/*/1/*/*.obj", 2), key("segment/1/*/*.obj", 1), key("manifest/1/*/*.obj", 1)
	check := func(args []string, code int, want string) {
		t.Helper()
		got := command(t, "", append([]string{"inspect"}, args...)...)
		if got.code != code || !strings.Contains(got.stdout+got.stderr, want) {
			t.Errorf("%v: got %+v, want code %d and %q", args, got, code, want)
		}
	}
	for _, tc := range []struct {
		what, name string
		code       int
		want       string
	}{
		{"slot", slot, exitOK, "a/"},
		{"segment", segment, exitOK, "/0"},
		{"manifest", manifest, exitOK, "manifest of a/0"},
		{"manifest", "a/0", exitOK, "LEADER EPOCH"},
		{"manifest", "a/1", exitOK, "none yet"},
		{"topic", "a", exitOK, "PARTITION"},
		{"topic", "nope", exitFailure, `no topic "nope"`},
		{"offset", "a/0@0", exitOK, "checksum ok"},
		{"offset", "a/0@1000000", exitFailure, "behind the end"},
		{"offset", "a/0", exitUsage, "is not TOPIC/PARTITION@OFFSET"},
		{"slot", "x", exitUsage, "is no key of a slot"},
	} {
		check([]string{tc.what, tc.name, "--data-dir", dir}, tc.code, tc.want)
	}
	check(nil, exitUsage, "say broker inspect and one of slot, segment")
	check([]string{"--help"}, exitOK, "TOPIC/PARTITION@OFFSET")
	check([]string{"slots"}, exitUsage, `did you mean "slot"?`)
	check([]string{"slot"}, exitUsage, "needs to know which")

	// Objects can be looked at without etcd; topics then have no names.
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	check([]string{"segment", segment, "--data-dir", dir}, exitOK, "topics are shown by their ids")
	check([]string{"topic", "a", "--data-dir", dir}, exitFailure, "no data in the folder")
}
