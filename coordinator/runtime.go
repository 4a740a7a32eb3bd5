package coordinator

import (
	"context"
	"log/slog"
	"time"
)

// Options are the settings of a Runtime. The zero value works.
type Options struct {
	Workers       int           // goroutines that run machines; 0 means 4
	BatchBytesMax int           // records of several outputs share a batch up to this size; 0 means 1 MiB
	CommitTimeout time.Duration // a reply that waits longer for its commit is sent ErrUnavailable; 0 means 5 s, as in Kafka
	Clock         Clock         // nil means the system's
	Logger        *slog.Logger  // nil means none
	// Dropped is called when a shard was dropped because an append failed; err is what the journal said. Unless err
	// wraps ErrFenced the callee should Load the shard again. Called from any goroutine.
	Dropped func(shard int32, err error)
}

// A Clock tells and keeps time.
type Clock interface {
	Now() time.Time
	// Timer returns a channel that receives once, d from now, unless stop is called before.
	Timer(d time.Duration) (fired <-chan time.Time, stop func())
}

// Runtime runs one machine per loaded shard. Its methods may be called concurrently.
type Runtime[M Machine] struct{}

// New returns a runtime that makes machines with newMachine. Nothing runs until Run is called.
func New[M Machine](journal Journal, newMachine func(shard int32) M, o Options) *Runtime[M] {
	return &Runtime[M]{}
}

// Run does all work until ctx ends. Then it drops every shard (ErrNotCoordinator) and returns nil.
func (r *Runtime[M]) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Load starts to replay the shard from a snapshot and returns at once. A shard that is loaded or loading is left alone.
func (r *Runtime[M]) Load(shard int32, from Snapshot) {}

// Unload drops the shard; everything that waits is sent ErrNotCoordinator.
func (r *Runtime[M]) Unload(shard int32) {}

// Snapshot returns the state of the shard as of an offset that is committed when it returns.
func (r *Runtime[M]) Snapshot(ctx context.Context, shard int32) (Snapshot, error) {
	return Snapshot{}, ErrNotCoordinator
}
