package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/tidemill/tidemill/broker"
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/metadata/etcdembed"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/storeurl"
)

// openedCluster is a cluster's metadata and bucket.
type openedCluster struct {
	config *config.Config
	meta   *metadata.Store
	// closers are called last opened first.
	closers []func() error
}

// openCluster reads the broker's settings, and those that the cluster keeps, and opens its metadata.
func openCluster(ctx context.Context, e *environment) (*openedCluster, error) {
	o, err := openMetadata(ctx, e)
	if err != nil {
		return nil, err
	}
	if o.config, err = broker.WithShared(ctx, o.config, o.meta); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// openMetadata reads the broker's settings and opens the metadata that they name. Nothing of the cluster is created or changed.
func openMetadata(ctx context.Context, e *environment) (*openedCluster, error) {
	c, err := load(e)
	if err != nil {
		return nil, err
	}
	o := &openedCluster{config: c}
	mc := metadataConfig(c)
	if c.Cluster.Embedded() {
		if mc.Endpoints, err = o.embedded(ctx); err != nil {
			return nil, err
		}
	}
	meta, err := metadata.Open(ctx, mc)
	if err != nil {
		o.close()
		return nil, fmt.Errorf("open the cluster's metadata (cluster set by %s): %w", c.Source("cluster"), err)
	}
	o.closers = append(o.closers, meta.Close)
	o.meta = meta
	if meta.Image().Cluster.ID == "" {
		o.close()
		return nil, fmt.Errorf("etcd holds no cluster named %q (cluster set by %s)", c.Cluster.Name, c.Source("cluster"))
	}
	return o, nil
}

// embedded returns the addresses of the etcd in the data folder: of the broker that runs on it, or of one started now. A broker cannot
// start on the folder meanwhile.
func (o *openedCluster) embedded(ctx context.Context) ([]string, error) {
	dir := filepath.Join(o.config.DataDir, "etcd")
	problem := func(err error) error {
		return fmt.Errorf("%w\n  name the broker's folder with --data-dir (set by %s), or its cluster with --cluster", err, o.config.Source("data-dir"))
	}
	if err := etcdembed.Exists(dir); err != nil {
		return nil, problem(err)
	}
	server, err := etcdembed.Start(ctx, dir, nil)
	if errors.Is(err, etcdembed.ErrInUse) {
		endpoint, err := etcdembed.Endpoint(dir)
		if err != nil {
			return nil, problem(err)
		}
		return []string{endpoint}, nil
	}
	if err != nil {
		return nil, problem(err)
	}
	o.closers = append(o.closers, func() error { server.Close(); return nil })
	return server.Endpoints(), nil
}

// bucket opens the bucket for reading.
func (o *openedCluster) bucket(ctx context.Context) (objectstore.Store, error) {
	store, err := openBucket(ctx, o.config)
	if err == nil {
		if c, ok := store.(io.Closer); ok {
			o.closers = append(o.closers, c.Close)
		}
	}
	return store, err
}

func openBucket(ctx context.Context, c *config.Config) (objectstore.Store, error) {
	store, err := storeurl.OpenReadOnly(ctx, c.Bucket)
	if err != nil {
		return nil, fmt.Errorf("open the bucket (set by %s): %w", c.Source("bucket"), err)
	}
	return store, nil
}

// close gives back what was opened. What was written was answered, so no error matters.
func (o *openedCluster) close() {
	for _, f := range slices.Backward(o.closers) {
		_ = f()
	}
	o.closers = nil
}
