package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/objectstore"
)

// ErrForeignBucket means that the bucket belongs to another cluster. Using it would mix two clusters' data.
var ErrForeignBucket = errors.New("metadata: bucket of another cluster")

// guardKey is where a bucket says whose it is.
const guardKey = "cluster.json"

// guardAttempts bounds how often an ambiguous put is tried.
const guardAttempts = 3

type guardObject struct {
	Format    string `json:"format"`
	Version   int    `json:"version"`
	ClusterID string `json:"cluster_id"`
}

// EnsureGuard makes sure that the bucket belongs to the cluster: the first cluster to use it writes its id, any other gets
// ErrForeignBucket.
func EnsureGuard(ctx context.Context, store objectstore.Store, clusterID string) error {
	body, err := json.MarshalIndent(guardObject{"tidemill-cluster", 1, clusterID}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", guardKey, err)
	}
	body = append(body, '\n')
	var last error
	for range guardAttempts {
		found, err := store.Get(ctx, guardKey)
		if err == nil {
			return checkGuard(found, clusterID)
		}
		if !errors.Is(err, objectstore.ErrNotFound) {
			return fmt.Errorf("read %s: %w", guardKey, err)
		}
		switch err := store.Put(ctx, guardKey, body); {
		case err == nil:
			return nil
		case !errors.Is(err, objectstore.ErrAmbiguous) && !errors.Is(err, objectstore.ErrConflict):
			return fmt.Errorf("write %s: %w", guardKey, err)
		default:
			last = err // taken, or unknown: the next round reads who holds it
		}
	}
	return fmt.Errorf("write %s: %w", guardKey, last)
}

func checkGuard(body []byte, clusterID string) error {
	var g guardObject
	if err := json.Unmarshal(body, &g); err != nil {
		return fmt.Errorf("%s in the bucket: %w", guardKey, err)
	}
	if g.Format != "tidemill-cluster" || g.Version != 1 || g.ClusterID == "" {
		return fmt.Errorf("%s in the bucket: format %q version %d with cluster id %q is not understood", guardKey, g.Format, g.Version, g.ClusterID)
	}
	if g.ClusterID != clusterID {
		return fmt.Errorf("%w: it belongs to cluster %s, this is cluster %s; use the etcd of that cluster, or another bucket or prefix",
			ErrForeignBucket, g.ClusterID, clusterID)
	}
	return nil
}
