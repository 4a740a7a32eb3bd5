package controller

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

const (
	// watchFor is how long the log of a broker whose process is gone is watched before it is ended: a log that grows proves life (S1).
	watchFor = time.Second
	// StillFor is for how long a log must not have grown to be ended on the word of a lease alone: its broker may live, and takes a slot of
	// its own for a proof that it leads, almost as long.
	StillFor = 9 * time.Second
	// etcdSilent is a silence of etcd after which leases say little.
	etcdSilent = 5 * time.Second
	retryAfter = time.Second
	// strangersMax bounds the addresses that are kept of brokers which are gone and own nothing.
	strangersMax = 16
)

// suspects are the lives that are not registered any more, and own partitions or were seen here: what owns nothing is ended too, or its
// broker's id would be nobody's for ever. A lease that ended proves nothing: etcd is known to lose
// all of them at once (S1). So a life is ended when, besides, its address refuses connections and its log has stopped; several may be,
// at the same time. On the word of its lease alone it is ended only after a grace of one more LeaseTTL, one life in that time.
type suspects struct {
	c       *Controller
	running sync.WaitGroup

	mu sync.Mutex
	// addresses are where brokers were when they were last registered, at least of those that are or own something.
	addresses map[wal.Life]metadata.BrokerInfo
	// pursued are the lives being looked into, with what stops that.
	pursued map[wal.Life]context.CancelFunc
	// silentAt is when etcd was last found silent, and byLease when a life was last ended on the word of its lease, one that owned nothing and
	// one that did: the former must not hold up the latter.
	silentAt time.Time
	byLease  map[bool]time.Time
}

func (s *suspects) init(c *Controller) {
	s.c = c
	s.addresses, s.pursued = map[wal.Life]metadata.BrokerInfo{}, map[wal.Life]context.CancelFunc{}
	s.byLease = map[bool]time.Time{}
}

// note remembers where brokers are.
func (s *suspects) note(img *metadata.Image, silence time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range img.Brokers {
		s.addresses[b.Life] = b.BrokerInfo
	}
	if len(s.addresses) > 2*len(img.Brokers)+strangersMax {
		missing := missingOwners(img)
		maps.DeleteFunc(s.addresses, func(life wal.Life, _ metadata.BrokerInfo) bool {
			return img.Brokers[life.Broker].Life != life && !missing[life]
		})
	}
	if silence > etcdSilent {
		s.silentAt = time.Now()
	}
}

// drop gives all pursuits up: another broker is the controller.
func (s *suspects) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for life, stop := range s.pursued {
		stop()
		delete(s.pursued, life)
	}
}

func (s *suspects) wait() {
	s.drop()
	s.running.Wait()
}

// missingOwners are the lives that own partitions and are not registered.
func missingOwners(img *metadata.Image) map[wal.Life]bool {
	missing := map[wal.Life]bool{}
	for _, t := range img.TopicsByID {
		for i := range t.Partitions {
			if owner := t.Partitions[i].Owner; img.Brokers[owner.Broker].Life != owner {
				missing[owner] = true
			}
		}
	}
	return missing
}

// pursue looks into every life that is not registered, and lets go of those that came back.
func (s *suspects) pursue(ctx context.Context, img *metadata.Image) {
	missing := missingOwners(img)
	idle := s.missingIdle(img, missing)
	s.c.mu.Lock()
	for life := range s.c.sealed {
		if !missing[life] {
			delete(s.c.sealed, life) // it owns nothing any more
		}
		delete(missing, life)
	}
	s.c.mu.Unlock()
	maps.Copy(missing, idle)
	s.mu.Lock()
	defer s.mu.Unlock()
	for life, stop := range s.pursued {
		if !missing[life] {
			stop()
			delete(s.pursued, life)
		}
	}
	for life := range missing {
		if s.pursued[life] != nil {
			continue
		}
		one, stop := context.WithCancel(ctx)
		s.pursued[life] = stop
		s.running.Go(func() { s.lookInto(one, life, idle[life]) })
	}
}

// missingIdle are the lives that were registered, are not any more, and own nothing.
func (s *suspects) missingIdle(img *metadata.Image, owners map[wal.Life]bool) map[wal.Life]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := map[wal.Life]bool{}
	for life := range s.addresses {
		if img.Brokers[life.Broker].Life != life && !owners[life] {
			idle[life] = true
		}
	}
	return idle
}

// ended notes that a life's log is SEALED. If it owns something its partitions are planned for; its address is needed no more.
func (s *suspects) ended(life wal.Life) {
	s.mu.Lock()
	delete(s.addresses, life)
	s.mu.Unlock()
	s.c.ended(life)
}

// lookInto ends the log of a life once enough speaks for its death, or finds that it has ended. It stops with ctx.
func (s *suspects) lookInto(ctx context.Context, life wal.Life, idle bool) {
	now := time.Now()
	found := suspicion{since: now, still: now, idle: idle}
	logger := s.c.Logger.With(slog.String("suspect", life.String()))
	for ctx.Err() == nil {
		st, err := s.c.Cluster.Load(ctx, life)
		switch {
		case err != nil:
			logger.Warn("the state of a broker that is gone is not known", slog.Any("error", err))
		case st.Phase == wal.PhaseSealed:
			s.ended(life)
			return
		case st.Phase == wal.PhaseSealing || s.dead(ctx, &st, &found, logger):
			begun := time.Now()
			if err = s.c.Seal(ctx, life); err == nil {
				logger.Info("ended the log of a dead broker", slog.Duration("took", time.Since(begun)))
				s.awaitProofs(ctx, life, &found)
				s.ended(life)
				return
			}
			if ctx.Err() == nil {
				logger.Warn("the log of a dead broker could not be ended yet", slog.Any("error", err))
			}
		default:
			continue // dead has waited
		}
		if pause(ctx, retryAfter) != nil {
			return
		}
	}
}

// suspicion is what is known of a life that is looked into.
type suspicion struct {
	since   time.Time
	idle    bool // it owns nothing
	refused bool // its process is gone
	// end is where its log was last seen to end, and still since when.
	end   int64
	still time.Time
}

func (s *suspicion) see(end int64) {
	if end != s.end {
		s.end, s.still = end, time.Now()
	}
}

// dead looks for a while and reports whether a life that is OPEN may be ended (S1).
func (s *suspects) dead(ctx context.Context, st *wal.StreamState, found *suspicion, logger *slog.Logger) bool {
	s.mu.Lock()
	at, known := s.addresses[st.Life]
	s.mu.Unlock()
	gone := known && s.c.Refuses(ctx, at)
	before, err := s.c.LogEnd(ctx, st.Life, st.Trim)
	if pause(ctx, watchFor) != nil {
		return false
	}
	after, err2 := s.c.LogEnd(ctx, st.Life, st.Trim)
	if err != nil || err2 != nil || ctx.Err() != nil {
		found.still = time.Now() // not known
		return false
	}
	found.see(before)
	found.see(after)
	if after != before {
		return false
	}
	switch {
	case !s.trusted():
		return false
	case gone && s.c.Refuses(ctx, at):
		found.refused = true
		logger.Warn("a broker is dead: its lease ended, its address refuses connections, its log has stopped")
		return true
	case time.Since(found.since) >= s.c.LeaseTTL && time.Since(found.still) >= StillFor && s.mayTrustLease(found.idle):
		logger.Warn("a broker is taken for dead: its lease ended a while ago and its log has stopped")
		return true
	}
	return false
}

// trusted reports whether etcd has been well for long enough that brokers which live are registered again.
func (s *suspects) trusted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silentAt.IsZero() || time.Since(s.silentAt) >= 2*s.c.LeaseTTL
}

// mayTrustLease lets one life that owns something, and one that does not, be ended in LeaseTTL on the word of its lease.
func (s *suspects) mayTrustLease(idle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.byLease[idle]; !last.IsZero() && time.Since(last) < s.c.LeaseTTL {
		return false
	}
	s.byLease[idle] = time.Now()
	return true
}

// awaitProofs waits, when a log has grown while it was being ended, until its last slot is no proof any more to a broker that may live.
func (s *suspects) awaitProofs(ctx context.Context, life wal.Life, found *suspicion) {
	s.mu.Lock()
	at, known := s.addresses[life]
	s.mu.Unlock()
	if found.refused || found.idle || known && s.c.Refuses(ctx, at) {
		return
	}
	if st, err := s.c.Cluster.Load(ctx, life); err == nil && st.N-1 <= found.end {
		return
	}
	_ = pause(ctx, StillFor)
}
