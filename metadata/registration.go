package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/wal"
)

// A Registration keeps a broker's liveness key while the life is OPEN. Losing the lease stops nothing, since the log fences
// (W6) and no lease does: the key comes back by itself once etcd does.
type Registration struct {
	store  *Store
	life   wal.Life
	stop   context.CancelFunc
	done   chan struct{}
	fenced chan struct{}

	mu struct {
		sync.Mutex
		lease clientv3.LeaseID
		info  BrokerInfo
		// loadsLease is the lease under which loads were published last.
		loadsLease clientv3.LeaseID
	}
}

// Register announces a broker under a lease and keeps it announced until Unregister or Close of the store. A key of an
// earlier life is replaced. ErrFenced: life is not OPEN, or a later life of the broker is registered.
func (s *Store) Register(ctx context.Context, life wal.Life, info BrokerInfo) (*Registration, error) {
	first, cancel := s.bound(ctx)
	defer cancel()
	r := &Registration{store: s, life: life, done: make(chan struct{}), fenced: make(chan struct{})}
	r.mu.info = info
	if err := r.announce(first); err != nil {
		return nil, err
	}
	keep, stop := context.WithCancel(s.ctx)
	r.stop = stop
	s.running.Go(func() { r.keep(keep) })
	return r, nil
}

// Fenced is closed when the life turned out not to be OPEN any more: the broker must stop at once.
func (r *Registration) Fenced() <-chan struct{} { return r.fenced }

// Unregister ends the registration and removes the liveness key. When that fails the key goes with its lease.
func (r *Registration) Unregister(ctx context.Context) error {
	r.stop()
	<-r.done
	ctx, cancel := r.store.bound(ctx)
	defer cancel()
	err := r.store.again(ctx, func(try context.Context) error {
		_, err := r.store.client.Revoke(try, r.leaseID())
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("unregister %s: %w: %w", r.life, ErrUnavailable, err)
	}
	return nil
}

func (r *Registration) leaseID() clientv3.LeaseID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.lease
}

// keep refreshes the lease, and announces again whenever it was lost.
func (r *Registration) keep(ctx context.Context) {
	defer close(r.done)
	var judged int64 // the revision at which the life was last seen to be OPEN
	var last time.Duration
	for ctx.Err() == nil {
		if alive, err := r.store.client.KeepAlive(ctx, r.leaseID()); err == nil {
			for answer := range alive {
				r.store.heard()
				r.store.refreshed.Store(&refreshed{revision: answer.Revision, at: time.Now()})
				before := last
				last = time.Since(r.store.opened)
				if answer.Revision <= judged { // nobody has written to etcd since
					// A refresh is sent a third of the lease after the answer to the one before. An answer that comes sooner is to one that was
					// sent before that, because it was not answered.
					if last-before >= r.store.config.LeaseTTL/3 {
						r.store.openAt.Store(int64(before))
					}
					continue
				}
				var over bool
				if over, judged = r.ended(ctx); over {
					close(r.fenced)
					return
				}
				if judged > 0 {
					r.store.openAt.Store(int64(last))
				}
			}
		}
		if ctx.Err() != nil {
			return
		}
		r.store.config.Logger.LogAttrs(ctx, slog.LevelWarn, "liveness lease lost", slog.String("life", r.life.String()))
		for {
			try, cancel := r.store.bound(ctx)
			err := r.announce(try)
			cancel()
			if err == nil {
				last = 0 // what was sent meanwhile is not known
				break
			}
			if errors.Is(err, ErrFenced) {
				close(r.fenced)
				return
			}
			if !r.store.pause(ctx, retryEvery) {
				return
			}
		}
	}
}

// ended reports whether etcd says that the life is not OPEN any more, and as of which revision, 0 if unknown. It is asked
// when the lease was refreshed, a few times per LeaseTTL, and something was written to etcd meanwhile: a life that writes
// nothing meets no foreign slot, and would else serve stale reads for ever.
func (r *Registration) ended(ctx context.Context) (over bool, revision int64) {
	ctx, cancel := r.store.bound(ctx)
	defer cancel()
	st, revision, err := r.store.loadAt(ctx, r.life)
	if err != nil {
		return false, 0
	}
	return st.Phase != wal.PhaseOpen, revision
}

// announce puts the key under a new lease if the life is OPEN.
func (r *Registration) announce(ctx context.Context) error {
	s, key, op := r.store, r.store.keys.broker(r.life.Broker), newOp()
	what := "register " + r.life.String()
	var lease *clientv3.LeaseGrantResponse
	err := s.again(ctx, func(try context.Context) (err error) { // one that is granted twice ends by itself
		lease, err = s.client.Grant(try, int64((s.config.LeaseTTL+time.Second-1)/time.Second))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	for {
		now, err := s.read(ctx, what, append(s.gets(r.life), clientv3.OpGet(key))...)
		if err != nil {
			return err
		}
		st, err := s.stream(r.life, kvAt(now, 0), kvAt(now, 1))
		if err != nil {
			return err
		}
		if st.Phase != wal.PhaseOpen || r.superseded(kvAt(now, 2)) {
			return fmt.Errorf("%s: %w", what, ErrFenced)
		}
		answer, ok, err := s.commit(ctx, write{
			what:   what,
			when:   []clientv3.Cmp{revIs(s.keys.state(r.life), st.Rev), revIs(key, revAt(now, 2))},
			then:   []clientv3.Op{clientv3.OpPut(key, r.value(op), clientv3.WithLease(lease.ID))},
			orElse: []clientv3.Op{clientv3.OpGet(key)},
			mine:   func(t *clientv3.TxnResponse) bool { return opAt(t, 0, op) },
		})
		if err != nil {
			return err
		}
		if ok {
			r.mu.Lock()
			r.mu.lease = lease.ID
			r.mu.Unlock()
			rev := answer.Header.Revision
			if !answer.Succeeded {
				rev = revAt(answer, 0)
			}
			s.seen(ctx, rev)
			return nil
		}
	}
}

// value is the liveness key's.
func (r *Registration) value(op string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.mu.info
	return encode(brokerValue{newHeader(op), r.life.String(), i.Host, i.Port, i.Rack, i.Draining})
}

// SetDraining tells the others whether the broker should be given partitions. It holds on when the lease is lost and comes back.
func (r *Registration) SetDraining(ctx context.Context, draining bool) error {
	r.mu.Lock()
	r.mu.info.Draining = draining
	r.mu.Unlock()
	s, key, op := r.store, r.store.keys.broker(r.life.Broker), newOp()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := fmt.Sprintf("set draining of %s to %v", r.life, draining)
	now, err := s.read(ctx, what, clientv3.OpGet(key))
	if err != nil {
		return err
	}
	if r.superseded(kvAt(now, 0)) {
		return fmt.Errorf("%s: %w", what, ErrFenced)
	}
	return s.replace(ctx, what, key, op, r.value(op), []clientv3.Cmp{revIs(key, revAt(now, 0))}, clientv3.WithLease(r.leaseID()))
}

// superseded reports whether a later life of the same broker holds the key.
func (r *Registration) superseded(kv *kvPair) bool {
	if kv == nil {
		return false
	}
	v, err := decode[brokerValue](string(kv.Key), kv.Value)
	if err != nil {
		return false
	}
	other, err := wal.ParseLife(v.Life)
	return err == nil && other.Epoch > r.life.Epoch
}
