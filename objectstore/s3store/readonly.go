package s3store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// OpenReadOnly is Open without the test object, for who may only list and read. Close it after its last use.
func OpenReadOnly(ctx context.Context, c Config) (objectstore.Store, error) {
	c.PutTimeout = cmp.Or(c.PutTimeout, 5*time.Second)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 5*time.Second)
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		c.Prefix += "/"
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	loaded, err := load(ctx, &c)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", c.Bucket, err)
	}
	s := &Store{config: c, loaded: loaded, conn: connect(c, loaded), checksums: Header}
	if err := s.reach(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open bucket %s: %w", c.Bucket, err), s.Close())
	}
	return objectstore.ReadOnly(s), nil
}
