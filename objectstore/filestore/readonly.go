package filestore

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/objectstore"
)

// OpenReadOnly opens the folder root, which must exist, for reading. It touches nothing in it, not even what crashed processes left.
// ErrDenied or ErrNoBucket, with the reason, when it cannot be read.
func OpenReadOnly(root string) (objectstore.Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", root, err)
	}
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("open folder %s: %w: it is not a folder", root, objectstore.ErrNoBucket)
	}
	if err == nil {
		var f *os.File
		if f, err = os.Open(root); err == nil {
			_ = f.Close() // only opened to see that it may be read
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", root, classify(err))
	}
	return objectstore.ReadOnly(&Store{root: root, sync: (*os.File).Sync, scratch: &scratch{}}), nil
}
