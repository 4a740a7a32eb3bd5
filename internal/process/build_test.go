package process

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPinned(t *testing.T) {
	const module = "github.com/minio/minio"
	for _, c := range []struct{ name, text, want string }{
		{"in a block", "tool (\n\tgithub.com/minio/minio\n)\nrequire (\n\tgithub.com/minio/minio-go/v7 v7.0.1\n\tgithub.com/minio/minio v0.0.0-1 // indirect\n)\n", "v0.0.0-1"},
		{"alone", "require github.com/minio/minio v0.0.0-2\n", "v0.0.0-2"},
		{"absent", "require github.com/minio/mc v0.0.0-3\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "go.mod")
			if err := os.WriteFile(file, []byte(c.text), 0o666); err != nil {
				t.Fatal(err)
			}
			got, err := pinned(file, module)
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("got %q, error %v; want %q", got, err, c.want)
			}
		})
	}
}
