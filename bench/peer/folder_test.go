package peer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/bench/s3sim"
)

func TestFolderHolds(t *testing.T) {
	root := t.TempDir()
	for name, size := range map[string]int{
		"cluster.json.obj": 3, "wal/1c/1/0.obj": 100, "wal/1c/2/0.obj": 10, "segment/a.obj": 7, "segment/half-written": 5, ".tmp/x/y": 9,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := folderHolds(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]s3sim.Holding{"cluster.json": {Objects: 1, Bytes: 3}, "wal": {Objects: 2, Bytes: 110}, "segment": {Objects: 1, Bytes: 7}}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for prefix, h := range want {
		if got[prefix] != h {
			t.Errorf("%s: got %+v, want %+v", prefix, got[prefix], h)
		}
	}
}
