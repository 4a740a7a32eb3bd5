package peer

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/bench/s3sim"
)

// folderHolds counts the objects of a bucket that is a folder. The bucket may be in use: what goes away meanwhile is not counted.
func folderHolds(root string) (map[string]s3sim.Holding, error) {
	out := map[string]s3sim.Holding{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".obj") {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || info == nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		first, _, _ := strings.Cut(strings.TrimSuffix(filepath.ToSlash(rel), ".obj"), "/")
		h := out[first]
		out[first] = s3sim.Holding{Objects: h.Objects + 1, Bytes: h.Bytes + info.Size()}
		return err
	})
	return out, err
}
