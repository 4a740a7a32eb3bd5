package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

// SealOptions configure Seal.
type SealOptions struct {
	// Cluster is that of the sealed life. A slot of another cluster is never believed; generations may differ.
	Cluster Cluster
	// Name names this sealer, for people and for the registry.
	Name string
	// Prefetch is how many slots are read in parallel, default and at least MaxWindow+1.
	Prefetch int
	// AttemptTimeout bounds one request, default 10 s; reads that are late stretch that of later ones, up to eightfold.
	AttemptTimeout time.Duration
	// Random draws the pauses between attempts; default one that nobody can foresee. It is used by one goroutine.
	Random rand.Source
	// Logger defaults to slog.Default.
	Logger *slog.Logger
}

// Seal ends the log of a life that is thought dead (S2-S6), or joins or adopts what other sealers of it did. It is
// safe when the life is in fact alive: that life is fenced. It retries until ctx ends; calling it again goes on.
// ErrQuarantine when the log cannot be judged. Ownership of partitions may move once it returned nil (S7). Chunks of
// the result that the registry's trim covers are left out.
func Seal(ctx context.Context, store objectstore.Store, reg Registry, life Life, o SealOptions) (Recovery, error) {
	o.Prefetch = max(o.Prefetch, MaxWindow+1)
	if o.AttemptTimeout <= 0 {
		o.AttemptTimeout = 10 * time.Second
	}
	if o.Random == nil {
		o.Random = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	limited := deadlineStore{store, o.AttemptTimeout, new(atomic.Int32)}
	reads := newPrefetcher(ctx, limited, life, o.Prefetch)
	defer reads.close()
	s := &sealer{
		store: limited, registry: deadlineRegistry{reg, o.AttemptTimeout}, reads: reads, life: life, opts: o,
		sleep: sleep, random: rand.New(o.Random).Int64N,
	}
	return s.run(ctx)
}

// sealer is the logic of Seal. All its I/O, waiting and chance goes through its fields, so that a simulation runs it
// as it is.
type sealer struct {
	store    objectstore.Store
	registry Registry
	reads    slotReader
	life     Life
	opts     SealOptions
	sleep    func(ctx context.Context, d time.Duration) error
	random   func(limit int64) int64
	faults   sealFaults
}

// sealFaults are the violations that simulations must find. Production code never sets them.
type sealFaults struct {
	skipHoles  bool // variant 1
	trustClaim bool // variant 16
}

// errMoved: the registry went on without us, so that what we saw in the store may be half deleted. Start over.
var errMoved = errors.New("wal: stream was sealed meanwhile")

func (s *sealer) run(ctx context.Context) (Recovery, error) {
	for {
		rec, err := s.once(ctx)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return Recovery{}, fmt.Errorf("seal %s: %w", s.life, err)
		}
		return rec, nil
	}
}

func (s *sealer) once(ctx context.Context) (Recovery, error) {
	st, err := s.begin(ctx)
	if err != nil {
		return Recovery{}, err
	}
	if st.Phase == PhaseSealed {
		return s.adopt(ctx, st)
	}
	rec, err := s.walk(ctx, st.Trim)
	if err != nil {
		return Recovery{}, err
	}
	decided, err := s.decide(ctx, rec)
	if err != nil {
		return Recovery{}, err
	}
	sealed, err := s.finish(ctx, decided)
	if s.faults.trustClaim {
		return rec, err
	}
	return sealed, err
}

// begin moves the stream to SEALING or joins those who did (S2).
func (s *sealer) begin(ctx context.Context) (StreamState, error) {
	var state StreamState
	err := s.retry(ctx, "begin", func() (bool, error) {
		st, err := s.registry.Load(ctx, s.life)
		if err == nil && st.Phase == PhaseOpen {
			st, err = s.registry.BeginSeal(ctx, s.life, st.Rev, s.opts.Name)
		}
		state = st
		return err == nil && st.Phase != PhaseOpen, err
	})
	return state, err
}

// decide makes what was found the decision, or adopts an earlier one (S5).
func (s *sealer) decide(ctx context.Context, rec Recovery) (Recovery, error) {
	key, body := RecoveryKey(s.life), rec.Encode()
	err := s.retry(ctx, "write recovery", func() (bool, error) {
		err := s.store.Put(ctx, key, body)
		if !errors.Is(err, objectstore.ErrConflict) {
			return err == nil, err
		}
		found, err := s.loadRecovery(ctx, key)
		if err == nil {
			rec = found
		}
		return err == nil, err
	})
	return rec, err
}

// finish moves the stream to SEALED, or adopts what it was sealed as (S6).
func (s *sealer) finish(ctx context.Context, rec Recovery) (Recovery, error) {
	key := RecoveryKey(s.life)
	var state StreamState
	err := s.retry(ctx, "finish", func() (bool, error) {
		st, err := s.registry.FinishSeal(ctx, s.life, rec.N, rec.Digest, key)
		if err != nil {
			// Unknown outcome: only the registry knows.
			st, err = s.registry.Load(ctx, s.life)
		}
		state = st
		return err == nil && st.Phase == PhaseSealed, err
	})
	if err != nil {
		return Recovery{}, err
	}
	return s.adopt(ctx, state)
}

// adopt returns the recovery of a stream that is SEALED.
func (s *sealer) adopt(ctx context.Context, st StreamState) (Recovery, error) {
	if st.RecoveryKey == "" {
		return s.walkClosed(ctx, st)
	}
	var rec Recovery
	err := s.retry(ctx, "read recovery", func() (bool, error) {
		var err error
		rec, err = s.loadRecovery(ctx, st.RecoveryKey)
		if errors.Is(err, objectstore.ErrNotFound) {
			err = s.quarantine(st.N, "recovery object %s is missing", st.RecoveryKey)
		}
		return err == nil, err
	})
	if err != nil {
		return Recovery{}, err
	}
	if rec.N != st.N || rec.Digest != st.Digest {
		return Recovery{}, s.quarantine(st.N, "recovery object ends at %d, the registry at %d", rec.N, st.N)
	}
	return rec.trimmed(st.Trim), nil
}

// loadRecovery reads a recovery object and checks whose it is.
func (s *sealer) loadRecovery(ctx context.Context, key string) (Recovery, error) {
	rec, err := LoadRecovery(ctx, s.store, key)
	switch {
	case errors.Is(err, ErrCorrupt):
		return Recovery{}, s.quarantine(0, "%v", err)
	case err != nil:
		return Recovery{}, err
	case rec.Life != s.life || rec.Cluster.ID != s.opts.Cluster.ID:
		return Recovery{}, s.quarantine(0, "%s is of life %s of cluster %q", key, rec.Life, rec.Cluster.ID)
	}
	return rec, nil
}

// quarantine is the error of a log that must not be judged (S3).
func (s *sealer) quarantine(seq int64, format string, args ...any) error {
	return fmt.Errorf("%w: at slot %s: %s", ErrQuarantine, SlotKey(s.life, seq), fmt.Sprintf(format, args...))
}

// retry calls f until it is done, needs a person, or ctx ends. Neither the store's nor the registry's errors decide
// anything.
func (s *sealer) retry(ctx context.Context, what string, f func() (bool, error)) error {
	limit := retryFirst
	for {
		done, err := f()
		if done || errors.Is(err, ErrQuarantine) || errors.Is(err, errMoved) {
			return err
		}
		if err != nil {
			s.opts.Logger.Debug("sealing is delayed", "life", s.life, "step", what, "error", err)
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("%s: %w", what, ctx.Err()), err)
		}
		if stop := s.sleep(ctx, time.Duration(s.random(int64(limit)))); stop != nil {
			return errors.Join(fmt.Errorf("%s: %w", what, stop), err)
		}
		limit = min(2*limit, retryMax)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
