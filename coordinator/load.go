package coordinator

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// replaysMax bounds the replays at a time: each reads ahead of its own in the bucket.
	replaysMax = 8
	// A failed replay is tried again, since nobody else can serve the shard.
	replayRetryMin = 100 * time.Millisecond
	replayRetryMax = 10 * time.Second
)

// Load starts to replay the shard from a snapshot and returns at once. A shard that is loaded or loading is left alone;
// one that is being unloaded is loaded afterwards.
func (r *Runtime[M]) Load(shard int32, from Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return
	}
	if s := r.mu.shards[shard]; s == nil {
		r.loadLocked(shard, from)
	} else if s.unloading {
		s.next = &from
	}
}

func (r *Runtime[M]) loadLocked(id int32, from Snapshot) {
	s := &shard[M]{id: id, from: from, cancel: func() {}}
	r.mu.shards[id] = s
	r.mu.loads = append(r.mu.loads, s)
	r.mu.work.Broadcast()
}

// Unload drops the shard; everything that waits is sent ErrNotCoordinator. It returns at once.
func (r *Runtime[M]) Unload(shard int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.mu.shards[shard]; s != nil {
		s.next = nil
		r.unloadLocked(s)
	}
}

func (r *Runtime[M]) unloadLocked(s *shard[M]) {
	if s.unloading {
		return
	}
	s.unloading = true
	s.cancel()
	r.queueLocked(s, event[M]{kind: eventUnload})
}

// drop forgets the machine and answers everybody: first those whose answer was ready, then those whom the machine kept.
// A load that was asked for meanwhile starts only now, so it sees every append of this machine.
func (r *Runtime[M]) drop(s *shard[M], answer error) {
	active := s.phase == phaseActive
	s.phase = phaseDropped
	for _, h := range s.held {
		h.reply(answer)
	}
	s.held, s.pending, s.bytes = nil, nil, 0
	if active {
		var out Output
		s.machine.Drop(&out)
		for _, reply := range out.replies {
			reply(answer)
		}
	}
	var none M
	s.machine = none

	r.mu.Lock()
	defer r.mu.Unlock()
	r.rearmLocked(s, time.Time{})
	delete(r.mu.shards, s.id)
	if s.next != nil && !r.mu.closed {
		r.loadLocked(s.id, *s.next)
	}
}

// runLoads replays the shards that were asked for until ctx ends.
func (r *Runtime[M]) runLoads(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.mu.work.Broadcast()
	})
	defer stop()
	var loads errgroup.Group
	for {
		r.mu.Lock()
		for len(r.mu.loads) == 0 && ctx.Err() == nil {
			r.mu.work.Wait()
		}
		if ctx.Err() != nil {
			r.mu.Unlock()
			return loads.Wait()
		}
		s := r.mu.loads[0]
		r.mu.loads = r.mu.loads[1:]
		loadCtx, cancel := context.WithCancel(ctx)
		if s.cancel = cancel; s.unloading {
			cancel()
		}
		r.mu.Unlock()
		loads.Go(func() error {
			defer cancel()
			r.load(loadCtx, s)
			return nil
		})
	}
}

// load replays s until it succeeds or ctx ends.
func (r *Runtime[M]) load(ctx context.Context, s *shard[M]) {
	for wait := replayRetryMin; ctx.Err() == nil; wait = min(2*wait, replayRetryMax) {
		m, end, err := r.replay(ctx, s)
		if err == nil {
			r.mu.Lock()
			r.queueLocked(s, event[M]{kind: eventLoaded, machine: m, end: end})
			r.mu.Unlock()
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.o.Logger.Error("coordinator shard not loaded", "shard", s.id, "error", err, "retry_in", wait)
		fired, stop := r.o.Clock.Timer(wait)
		select {
		case <-fired:
		case <-ctx.Done():
		}
		stop()
	}
}

// replay makes a machine that has seen every record of the shard.
func (r *Runtime[M]) replay(ctx context.Context, s *shard[M]) (m M, end int64, err error) {
	select {
	case r.replaying <- struct{}{}:
		defer func() { <-r.replaying }()
	case <-ctx.Done():
		return m, 0, ctx.Err()
	}
	m = r.newMachine(s.id)
	if err := decodeSnapshot(s.from.Blob, m.Apply); err != nil {
		return m, 0, fmt.Errorf("restore snapshot at offset %d: %w", s.from.Offset, err)
	}
	end, err = r.journal.Replay(ctx, s.id, s.from.Offset, func(offset int64, rec Record) error {
		if err := m.Apply(rec); err != nil {
			return fmt.Errorf("offset %d: %w", offset, err)
		}
		return nil
	})
	if err != nil {
		return m, 0, fmt.Errorf("replay from offset %d: %w", s.from.Offset, err)
	}
	return m, end, nil
}
