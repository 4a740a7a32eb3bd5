package filestore

import (
	"errors"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keyOf inverts keyToPath, as a walk does.
func keyOf(rel string) (string, bool) {
	folders, file := path.Split(rel)
	key := ""
	for folder := range strings.SplitSeq(strings.TrimSuffix(folders, "/"), "/") {
		part, ok := unescapePart(folder, true)
		if folders != "" {
			key += part + "/"
		}
		if !ok && folders != "" {
			return "", false
		}
	}
	name, isObject := strings.CutSuffix(file, objSuffix)
	part, ok := unescapePart(name, false)
	return key + part, ok && isObject
}

func TestKeyToPath(t *testing.T) {
	for key, want := range map[string]string{
		"wal/3f/0/0000": "wal/3f/0/0000.obj",
		"..":            "%2e..obj",
		"../../x":       "%2e./%2e./x.obj",
		"./x":           "%2e/x.obj",
		"/etc/passwd":   "%/etc/passwd.obj",
		"a//b":          "a/%/b.obj",
		"a/":            "a/%.obj",
		"a.obj":         "a.obj.obj",
		"a.obj/b":       "a%2eobj/b.obj",
		".obj/b":        "%2eobj/b.obj",
		".tmp/x":        "%2etmp/x.obj",
		"A%41":          "%41%2541.obj",
		"nul\x00":       "nul%00.obj",
		"a\\b":          "a%5cb.obj",
	} {
		got, err := keyToPath(key)
		if err != nil || got != want {
			t.Errorf("key %q: got path %q, error %v; want %q", key, got, err, want)
		}
	}
	for _, key := range []string{"", strings.Repeat("x", 252), strings.Repeat("X", 100) + "/y"} {
		if got, err := keyToPath(key); !errors.Is(err, errKey) {
			t.Errorf("key %.10q of %d bytes: got path %q, error %v; want %v", key, len(key), got, err, errKey)
		}
	}
}

func FuzzKeyToPath(f *testing.F) {
	for _, key := range []string{"a/b", "..", "a//b/", "%", "%%/%2e", "x.obj/y.obj", "\x00\xff", "Ä", "a/%/b"} {
		f.Add(key, "a")
	}
	f.Fuzz(func(t *testing.T, key, other string) {
		rel, err := keyToPath(key)
		if err != nil {
			return
		}
		if !filepath.IsLocal(rel) || path.Clean(rel) != rel || strings.ToLower(rel) != rel || strings.HasPrefix(rel, scratchName) {
			t.Errorf("key %q: path %q is not safe", key, rel)
		}
		if back, ok := keyOf(rel); !ok || back != key {
			t.Errorf("key %q: path %q stands for %q, %v", key, rel, back, ok)
		}
		otherRel, err := keyToPath(other)
		if err == nil && key != other && (rel == otherRel || strings.HasPrefix(rel, otherRel+"/")) {
			t.Errorf("keys %q and %q share path %q", key, other, rel)
		}
	})
}

// What S3 services do not take still maps apart here, and lists in order.
func TestHostileKeys(t *testing.T) {
	s := openAt(t, t.TempDir())
	want := []string{"..", "../x", "./x", "/x", "//x", "a", "a/", "a/b", "a/b/c", "a.obj", "a.obj/b", "nul\x00", "\xff"}
	for _, key := range want {
		if err := s.Put(t.Context(), key, []byte(key)); err != nil {
			t.Errorf("put %q: %v", key, err)
		}
	}
	var got []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		got = append(got, info.Key)
		if body, err := s.Get(t.Context(), info.Key); err != nil || string(body) != info.Key {
			t.Errorf("get %q: got %q, error %v", info.Key, body, err)
		}
	}
	sorted := []string{"..", "../x", "./x", "//x", "/x", "a", "a.obj", "a.obj/b", "a/", "a/b", "a/b/c", "nul\x00", "\xff"}
	if diff := cmp.Diff(sorted, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if err := s.Put(t.Context(), "", nil); !errors.Is(err, errKey) {
		t.Errorf("put of no key: got error %v, want %v", err, errKey)
	}
}

// Files that people drop into the folder are not objects.
func TestForeignFiles(t *testing.T) {
	for name, folder := range map[string]bool{"%": true, "a": true, "A": false, "%2": false, "%2E": false, "%61": false, "%zz": false, ".x": false, "a.obj": false} {
		if _, got := unescapePart(name, true); got != folder {
			t.Errorf("folder %q stands for a part of a key: got %v, want %v", name, got, folder)
		}
	}
}
