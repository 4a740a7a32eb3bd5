package storeurl

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/filestore"
	"github.com/tidemill/tidemill/objectstore/s3store"
)

// OpenReadOnly opens the store that rawURL names, as Open does, for reading: it creates no folder and no object. The store implements
// io.Closer.
func OpenReadOnly(ctx context.Context, rawURL string) (objectstore.Store, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("object store URL: %w", err)
	}
	if u.kind == File {
		return filestore.OpenReadOnly(u.folder)
	}
	return s3store.OpenReadOnly(ctx, u.s3)
}
