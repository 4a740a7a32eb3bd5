package wal

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// SealOptions configure Seal.
type SealOptions struct {
	// Cluster must be that of the sealed life.
	Cluster Cluster
	// Name names this sealer, for people and for the registry.
	Name string
	// Prefetch is how many slots are read in parallel, default 16.
	Prefetch int
	// AttemptTimeout bounds one request, default 10 s.
	AttemptTimeout time.Duration
	// Logger defaults to slog.Default.
	Logger *slog.Logger
}

// Seal ends the log of a life that is thought dead (S2-S6), or joins or adopts what other sealers of it did. It is
// safe when the life is in fact alive: that life is fenced. It retries until ctx ends; calling it again goes on.
// ErrQuarantine when the log cannot be judged. Ownership of partitions may move once it returned nil (S7).
func Seal(ctx context.Context, store objectstore.Store, reg Registry, life Life, o SealOptions) (Recovery, error) {
	return Recovery{}, errors.ErrUnsupported
}
