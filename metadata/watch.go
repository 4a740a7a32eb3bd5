package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pageSize bounds one answer of a list: some hundred bytes a key, far below gRPC's limits.
const pageSize = 5000

// watchWaitMax bounds the pause before a list when watches end again and again though lists are answered: a list costs as much as the cluster
// is large, and what others write shows only by it.
const watchWaitMax = 2 * time.Second

// errWatchEnded means that a watch was closed, without a word of why.
var errWatchEnded = errors.New("the watch has ended")

// errRewound means that etcd was restored from an old copy: its revisions went back, and nothing here can be trusted to
// match. The Image stays as it was.
var errRewound = errors.New("etcd's revision went back; it was restored from an older copy")

// watch keeps the Image current until Close. It lists again after every trouble and from time to time even without, for
// a watch is only a hint; but not while nobody writes to etcd.
func (s *Store) watch(st *state) {
	var reported string
	listed, since := st.revision, time.Now()
	wait := retryEvery
	for s.ctx.Err() == nil {
		begun := time.Now()
		err := s.follow(st)
		if err == nil && st.revision == listed && s.unwritten(listed, since) {
			since = time.Now()
			continue
		}
		if wait = min(2*wait, watchWaitMax); err == nil || time.Since(begun) > watchWaitMax {
			wait = retryEvery
		}
		if err == nil {
			err = s.relist(st)
		}
		for before := wait; err != nil && s.ctx.Err() == nil; before = retryEvery {
			if err.Error() != reported {
				reported = err.Error()
				s.config.Logger.LogAttrs(s.ctx, slog.LevelWarn, "metadata watch interrupted", slog.Any("error", err))
			}
			if !s.pause(s.ctx, before) {
				return
			}
			err = s.relist(st)
		}
		reported = ""
		listed, since = st.revision, time.Now()
	}
}

// unwritten reports whether etcd said after since that it is still at revision, without being asked for any key.
func (s *Store) unwritten(revision int64, since time.Time) bool {
	r := s.refreshed.Load()
	return r != nil && r.revision == revision && r.at.After(since)
}

// follow applies changes after st's revision until the watch breaks or it is time to list again (nil).
func (s *Store) follow(st *state) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(s.ctx), s.config.relistEvery)
	defer cancel()
	changes := s.client.Watch(ctx, string(s.keys), clientv3.WithPrefix(), clientv3.WithRev(st.revision+1),
		clientv3.WithProgressNotify())
	pace := publishPace{store: s, st: st}
	defer pace.now()
	for {
		select {
		case r, open := <-changes:
			if !open {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch %s: %w", s.keys, errWatchEnded)
			}
			if err := r.Err(); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch %s: %w", s.keys, err)
			}
			if moved, shown := s.takeAll(st, &r); moved && (shown || s.waiting.Load() > 0) {
				pace.later()
			}
		case <-s.nudge:
			if st.revision > s.Image().Revision {
				pace.later()
			}
		case <-pace.due:
			pace.now()
		}
	}
}

// takeAll applies what a watch brought, and reports whether the revision has moved, and whether by anything but loads.
func (s *Store) takeAll(st *state, r *clientv3.WatchResponse) (moved, shown bool) {
	shown = len(r.Events) == 0
	for _, e := range r.Events {
		shown = shown || !strings.HasPrefix(string(e.Kv.Key), s.keys.loads())
		s.take(st, string(e.Kv.Key), eventValue(e), e.Kv.ModRevision)
	}
	// The header of a batch of events may be ahead of events that follow in the next batch; only a progress
	// notification says that all up to it were sent.
	rev := st.revision
	if n := len(r.Events); n > 0 {
		rev = r.Events[n-1].Kv.ModRevision
	} else if r.IsProgressNotify() {
		rev = r.Header.Revision
	}
	if rev <= st.revision {
		return false, false
	}
	st.revision = rev
	return true, shown
}

// A publishPace publishes at once when it is seldom asked to, and else no more than half of the time: an Image costs as
// much as there are topics, and thousands of changes in a row would each pay for it.
type publishPace struct {
	store *Store
	st    *state
	due   <-chan time.Time // nil while nothing is to be published
	took  time.Duration
	last  time.Time
}

func (p *publishPace) later() {
	if p.due != nil {
		return
	}
	if rest := p.took - time.Since(p.last); rest > 0 {
		p.due = time.After(rest)
		return
	}
	p.publish()
}

// now publishes what was to be published later.
func (p *publishPace) now() {
	if p.due != nil {
		p.publish()
	}
}

func (p *publishPace) publish() {
	begun := time.Now()
	p.store.publish(p.st)
	p.due, p.last = nil, time.Now()
	p.took = p.last.Sub(begun)
}

func eventValue(e *clientv3.Event) []byte {
	if e.Type == mvccpb.DELETE {
		return nil
	}
	return e.Kv.Value
}

// take applies one change. One that cannot be read is reported and skipped: the rest of the cluster must go on.
func (s *Store) take(st *state, key string, value []byte, rev int64) {
	if err := st.apply(key, value, rev); err != nil {
		s.notUnderstood(key, rev, err)
	}
}

func (s *Store) notUnderstood(key string, rev int64, err error) {
	s.config.Logger.LogAttrs(s.ctx, slog.LevelError, "metadata not understood",
		slog.String("key", key), slog.Int64("revision", rev), slog.Any("error", err))
}

func (s *Store) publish(st *state) {
	old := s.image.Load()
	s.image.Store(st.image(old))
	close(old.changed)
}

// relist brings st to the present by a list and publishes it.
func (s *Store) relist(st *state) error {
	if err := s.list(s.ctx, st); err != nil {
		return err
	}
	s.publish(st)
	return nil
}

// list reads every key that Images show, all at one revision, and applies what differs. A change that the watch should
// have brought is reported.
func (s *Store) list(ctx context.Context, st *state) error {
	first, err := s.get(ctx, s.keys.cluster())
	if err != nil {
		return fmt.Errorf("list %s: %w: %w", s.keys, ErrUnavailable, err)
	}
	rev := first.Header.Revision
	if rev < st.revision {
		return fmt.Errorf("list %s at revision %d after %d: %w", s.keys, rev, st.revision, errRewound)
	}
	found := map[string]*mvccpb.KeyValue{}
	for _, kv := range first.Kvs {
		found[string(kv.Key)] = kv
	}
	for _, prefix := range []string{s.keys.brokers(), s.keys.controller(), s.keys.topics(), s.keys.allParts(), s.keys.intents(),
		s.keys.pins(), s.keys.drains(), s.keys.configs()} {
		err := s.page(ctx, prefix, rev, func(kv *mvccpb.KeyValue) { found[string(kv.Key)] = kv })
		if err != nil {
			return err
		}
	}
	missed := 0
	for key, kv := range found {
		if st.revs[key] == kv.ModRevision {
			continue
		}
		if kv.ModRevision <= st.revision {
			missed++
		}
		s.take(st, key, kv.Value, kv.ModRevision)
	}
	for key := range st.revs {
		if found[key] == nil {
			s.take(st, key, nil, rev)
		}
	}
	if missed > 0 {
		s.config.Logger.LogAttrs(ctx, slog.LevelError, "metadata watch missed changes", slog.Int("keys", missed))
	}
	st.revision = rev
	s.heard()
	return nil
}

// page calls fn for all keys under prefix as of revision rev. Each of its reads is bounded by Config.Timeout: a large cluster takes longer.
func (s *Store) page(ctx context.Context, prefix string, rev int64, fn func(*mvccpb.KeyValue)) error {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		r, err := s.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(rev), clientv3.WithLimit(pageSize))
		if err != nil {
			return fmt.Errorf("list %s: %w: %w", prefix, ErrUnavailable, err)
		}
		for _, kv := range r.Kvs {
			fn(kv)
		}
		if !r.More {
			return nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// listTries is how often a part of a list is asked for: the last time it has all of Config.Timeout, since over a slow link a page takes long
// from any member.
const listTries = 3

// get reads a part of a list.
func (s *Store) get(ctx context.Context, key string, opts ...clientv3.OpOption) (r *clientv3.GetResponse, err error) {
	for n := range listTries {
		try, cancel := s.attempt(ctx, n)
		r, err = s.kv.Get(try, key, opts...)
		cancel()
		if err == nil || !passing(err) || !s.pause(ctx, retryEvery) {
			break
		}
	}
	return r, err
}
