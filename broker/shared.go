package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/metadata"
)

// WithShared completes settings by those that the brokers of the cluster have in common: the bucket, and defaults of Kafka's
// settings. A cluster of one broker, whose etcd is in its process, has none.
func WithShared(ctx context.Context, cfg *config.Config, meta *metadata.Store) (*config.Config, error) {
	if cfg.Cluster.Embedded() {
		return cfg, nil
	}
	stored, err := meta.Settings(ctx)
	if errors.Is(err, metadata.ErrNoSettings) {
		return cfg.WithShared(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("settings of the cluster %s: %w", cfg.Cluster, err)
	}
	return cfg.WithShared(&config.Shared{Bucket: stored.Bucket, Kafka: stored.Kafka})
}
