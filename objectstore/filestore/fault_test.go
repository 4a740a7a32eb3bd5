package filestore

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
)

var errDisk = errors.New("input/output error")

func openAt(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() }) // tests that care close by themselves
	return s
}

// files returns the paths of all regular files below root but the locks.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.HasSuffix(name, lockSuffix) {
			names = append(names, strings.TrimPrefix(name, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatalf("walk: %v", err)
	}
	return names
}

// Each sync of a Put fails once: the body's, that of the new folder's parent, and that of the object's folder.
func TestFailedSync(t *testing.T) {
	for _, c := range []struct {
		name    string
		matches func(root, name string) bool
		visible bool
	}{
		{"of the body", func(root, name string) bool { return strings.HasPrefix(name, filepath.Join(root, scratchName)) }, false},
		{"of the parent folder", func(root, name string) bool { return name == root }, false},
		{"of the object's folder", func(root, name string) bool { return name == filepath.Join(root, "a") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openAt(t, t.TempDir())
			failed := 0
			s.sync = func(f *os.File) error {
				if c.matches(s.root, f.Name()) {
					failed++
					return errDisk
				}
				return f.Sync()
			}
			err := s.Put(t.Context(), "a/b", []byte("body"))
			if !errors.Is(err, objectstore.ErrAmbiguous) || !errors.Is(err, errDisk) {
				t.Errorf("put: got error %v, want %v with its cause", err, objectstore.ErrAmbiguous)
			}
			if _, err := s.Get(t.Context(), "a/b"); errors.Is(err, objectstore.ErrNotFound) == c.visible {
				t.Errorf("get: got error %v, want the object visible: %v", err, c.visible)
			}
			s.sync = (*os.File).Sync // a disk that seems well again proves nothing
			for _, err := range []error{s.Put(t.Context(), "a/b", []byte("body")), s.Put(t.Context(), "c", nil), s.Delete(t.Context(), "c")} {
				if !errors.Is(err, objectstore.ErrNoBucket) || errors.Is(err, objectstore.ErrAmbiguous) {
					t.Errorf("write after a failed sync: got error %v, want %v", err, objectstore.ErrNoBucket)
				}
			}
			if failed != 1 {
				t.Errorf("%d syncs failed, want 1", failed)
			}
		})
	}
}

// A conflict makes the name durable that it speaks of, or does not speak.
func TestConflictIsDurable(t *testing.T) {
	s := openAt(t, t.TempDir())
	if err := s.Put(t.Context(), "a/b", []byte("body")); err != nil {
		t.Fatalf("put: %v", err)
	}
	var synced []string
	s.sync = func(f *os.File) error {
		synced = append(synced, f.Name())
		return nil
	}
	err := s.Put(t.Context(), "a/b", []byte("other"))
	if !errors.Is(err, objectstore.ErrConflict) || len(synced) != 1 || synced[0] != filepath.Join(s.root, "a") {
		t.Errorf("got error %v after syncs of %q; want %v after one of the folder", err, synced, objectstore.ErrConflict)
	}
	s.sync = func(*os.File) error { return errDisk }
	if err := s.Put(t.Context(), "a/b", nil); errors.Is(err, objectstore.ErrConflict) || !errors.Is(err, objectstore.ErrAmbiguous) {
		t.Errorf("got error %v, want %v", err, objectstore.ErrAmbiguous)
	}
}

// The body and every name above it must be synced before Put returns, in this order.
func TestPutSyncsAll(t *testing.T) {
	s := openAt(t, t.TempDir())
	var synced []string
	s.sync = func(f *os.File) error {
		name := strings.TrimPrefix(f.Name(), s.root)
		if strings.HasPrefix(name, "/"+scratchName) {
			name = "body"
		}
		synced = append(synced, name)
		return f.Sync()
	}
	if err := s.Put(t.Context(), "a/b/c", []byte("body")); err != nil {
		t.Fatalf("put: %v", err)
	}
	if got, want := strings.Join(synced, " "), " /a body /a/b"; got != want {
		t.Errorf("synced %q, want %q", got, want)
	}
	synced = nil
	if err := s.Put(t.Context(), "a/b/d", []byte("body")); err != nil {
		t.Fatalf("put: %v", err)
	}
	if got, want := strings.Join(synced, " "), "body /a/b"; got != want {
		t.Errorf("into a known folder: synced %q, want %q", got, want)
	}
}

func TestCrashLeavesNoTrace(t *testing.T) {
	root := t.TempDir()
	crashed := openAt(t, root)
	if err := os.WriteFile(filepath.Join(crashed.scratch.folder, "1"), []byte("half a bo"), 0o666); err != nil {
		t.Fatal(err)
	}
	alive := openAt(t, root)
	if got := files(t, root); len(got) != 1 {
		t.Fatalf("files beside a living process: got %q, want its temporary one", got)
	}
	for range alive.List(t.Context(), "", "") {
		t.Error("a temporary file is listed")
	}
	// A crash closes the lock's file and nothing more.
	if err := crashed.scratch.lock.Close(); err != nil {
		t.Fatal(err)
	}
	third := openAt(t, root)
	if got := files(t, root); len(got) != 0 {
		t.Errorf("files after the next open: got %q, want none", got)
	}
	for name, s := range map[string]*Store{"alive": alive, "third": third} {
		if err := s.Put(t.Context(), name, nil); err != nil {
			t.Errorf("put by %s: %v", name, err)
		}
	}
	for _, s := range []*Store{alive, third, third} {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, scratchName))
	if err != nil || len(entries) != 0 {
		t.Errorf("after close: got %v, error %v; want nothing", entries, err)
	}
}

func TestPutLeavesNoTemporaryFile(t *testing.T) {
	s := openAt(t, t.TempDir())
	for range 2 { // the second conflicts
		_ = s.Put(t.Context(), "a/b", []byte("body"))
	}
	if got := files(t, s.root); len(got) != 1 || got[0] != "a/b.obj" {
		t.Errorf("files: got %q, want the object alone", got)
	}
}

func TestVanishedRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	s := openAt(t, root)
	if err := s.Put(t.Context(), "a/b", nil); err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/c", "top", "new/folder/d"} {
		if err := s.Put(t.Context(), key, nil); !errors.Is(err, objectstore.ErrNoBucket) {
			t.Errorf("put %s: got error %v, want %v", key, err, objectstore.ErrNoBucket)
		}
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a vanished root was made again: %v", err)
	}
}

func TestVanishedFolder(t *testing.T) {
	s := openAt(t, t.TempDir())
	if err := s.Put(t.Context(), "a/b/c", nil); err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(s.root, "a")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "a/b/d", nil); !errors.Is(err, objectstore.ErrAmbiguous) {
		t.Errorf("first put: got error %v, want %v", err, objectstore.ErrAmbiguous)
	}
	if err := s.Put(t.Context(), "a/b/d", nil); err != nil {
		t.Errorf("second put: %v", err)
	}
}

// creatorEnv makes this test binary one of several processes that create the same objects.
const creatorEnv = "TIDEMILL_FILESTORE_CREATOR"

func TestProcessesRace(t *testing.T) {
	if root := os.Getenv(creatorEnv); root != "" {
		createAll(t, root)
		return
	}
	root := t.TempDir()
	const processes, objects = 3, 64
	outputs := make(chan string, processes)
	for range processes {
		go func() { // ends with the process, which the channel waits for
			cmd := exec.Command(os.Args[0], "-test.run=^TestProcessesRace$", "-test.v")
			cmd.Env = append(os.Environ(), creatorEnv+"="+root)
			output, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("creator: %v\n%s", err, output)
			}
			outputs <- string(output)
		}()
	}
	wins := 0
	for range processes {
		wins += strings.Count(<-outputs, "won ")
	}
	if wins != objects {
		t.Errorf("%d processes won %d creations of %d objects", processes, wins, objects)
	}
}

func createAll(t *testing.T, root string) {
	s := openAt(t, root)
	for i := range 64 {
		key := "folder-" + string(rune('a'+i%4)) + "/" + strings.Repeat("x", i+1)
		switch err := s.Put(t.Context(), key, []byte(key)); {
		case err == nil:
			t.Logf("won %s", key)
		case !errors.Is(err, objectstore.ErrConflict):
			t.Errorf("put %s: %v", key, err)
		}
	}
}
