package metadata

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/wal"
)

// OpenLife creates a new life of a broker (W1): its epoch is one above the last, its nonce is new, so its slots' keys
// were never used before, even if etcd was rolled back.
func (s *Store) OpenLife(ctx context.Context, broker int32) (wal.Life, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for {
		life, ok, err := s.openNext(ctx, broker, "", math.MaxInt64, nil)
		if err != nil || ok {
			return life, err
		}
		// Another start of the same broker took the epoch: take the next.
	}
}

// openNext opens the life behind the broker's last one, unless one was opened after revision asOf or also does not hold. The address is
// that of a broker that leases the id.
func (s *Store) openNext(ctx context.Context, broker int32, address string, asOf int64, also []clientv3.Cmp) (wal.Life, bool, error) {
	key := s.keys.epoch(broker)
	r, err := s.read(ctx, fmt.Sprintf("read the epoch of broker %d", broker), clientv3.OpGet(key))
	if err != nil {
		return wal.Life{}, false, err
	}
	if revAt(r, 0) > asOf {
		return wal.Life{}, false, nil
	}
	life := wal.Life{Broker: broker, Epoch: 1}
	if kv := kvAt(r, 0); kv != nil {
		v, err := decode[idValue](key, kv.Value)
		if err != nil {
			return wal.Life{}, false, err
		}
		life.Epoch = uint64(v.Value) + 1
	}
	rand.Read(life.Nonce[:]) // crypto/rand.Read never fails
	op := newOp()
	_, ok, err := s.commit(ctx, write{
		what: "open life " + life.String(),
		when: append([]clientv3.Cmp{revIs(key, revAt(r, 0)), revIs(s.keys.state(life), 0)}, also...),
		then: []clientv3.Op{
			clientv3.OpPut(key, encode(idValue{counterValue{newHeader(op), int64(life.Epoch)}, address})),
			clientv3.OpPut(s.keys.state(life), encode(stateValue{header: newHeader(op), Phase: phaseNames[wal.PhaseOpen]})),
			clientv3.OpPut(s.keys.trim(life), encode(counterValue{newHeader(op), 0})),
		},
		orElse: []clientv3.Op{clientv3.OpGet(s.keys.state(life))},
		mine:   func(r *clientv3.TxnResponse) bool { return opAt(r, 0, op) },
	})
	return life, ok, err
}

// OpenLeasedLife opens a life under an id that no broker has now: the lowest from first on whose lives are all SEALED, that is not
// registered, and that no broker at another address ever had. The id is held by the open life itself, so that no two brokers get the same.
//
// An id stays with its address because clients know connections by ids: a connection of Kafka's Java client to the address that an id
// had once is used for as long as it lasts, whoever listens there. If a broker came back there under another id, and the id elsewhere,
// the client would ask the wrong broker for ever.
func (s *Store) OpenLeasedLife(ctx context.Context, first int32, address string) (wal.Life, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for {
		taken, asOf, err := s.takenIDs(ctx, address)
		if err != nil {
			return wal.Life{}, err
		}
		id := first
		for taken[id] {
			id++
		}
		life, ok, err := s.openNext(ctx, id, address, asOf, []clientv3.Cmp{revIs(s.keys.broker(id), 0)})
		if err != nil || ok {
			return life, err
		}
	}
}

// takenIDs returns the ids of brokers that are registered, have a life that is not SEALED, or were had at another address, and as of
// which revision.
func (s *Store) takenIDs(ctx context.Context, address string) (taken map[int32]bool, asOf int64, err error) {
	r, err := s.read(ctx, "read etcd's revision", clientv3.OpGet(s.keys.cluster()))
	if err != nil {
		return nil, 0, err
	}
	asOf, taken = r.Header.Revision, map[int32]bool{}
	var bad error
	err = s.page(ctx, s.keys.brokers(), asOf, func(kv *mvccpb.KeyValue) {
		id, err := parseBroker(strings.TrimPrefix(string(kv.Key), s.keys.brokers()))
		bad = cmp.Or(bad, err)
		taken[id] = true
	})
	if err != nil {
		return nil, 0, err
	}
	err = s.pageIDs(ctx, asOf, func(id int32, at string) { taken[id] = taken[id] || at != address })
	if err != nil {
		return nil, 0, err
	}
	prefix := s.keys.allLives()
	err = s.page(ctx, prefix, asOf, func(kv *mvccpb.KeyValue) {
		name, isState := strings.CutSuffix(strings.TrimPrefix(string(kv.Key), prefix), "/state")
		if !isState {
			return
		}
		life, err := wal.ParseLife(name)
		v, err2 := decode[stateValue](string(kv.Key), kv.Value)
		bad = cmp.Or(bad, err, err2)
		taken[life.Broker] = taken[life.Broker] || v.Phase != phaseNames[wal.PhaseSealed]
	})
	return taken, asOf, cmp.Or(err, bad)
}

// pageIDs calls fn for every id that a broker ever had, with the address that it belongs to, as of revision rev.
func (s *Store) pageIDs(ctx context.Context, rev int64, fn func(id int32, address string)) error {
	var bad error
	err := s.page(ctx, s.keys.epochs(), rev, func(kv *mvccpb.KeyValue) {
		id, err := parseBroker(strings.TrimPrefix(string(kv.Key), s.keys.epochs()))
		v, err2 := decode[idValue](string(kv.Key), kv.Value)
		bad = cmp.Or(bad, err, err2)
		fn(id, v.Address)
	})
	return cmp.Or(err, bad)
}

// AbandonedLives returns the lives that are not SEALED of brokers which are not registered and whose ids belong to an address.
func (s *Store) AbandonedLives(ctx context.Context, address string) ([]wal.Life, error) {
	var ids []int32
	registered := s.Image().Brokers
	err := s.pageIDs(ctx, 0, func(id int32, at string) {
		if _, alive := registered[id]; !alive && at == address {
			ids = append(ids, id)
		}
	})
	if err != nil {
		return nil, err
	}
	var out []wal.Life
	for _, id := range ids {
		lives, err := s.Lives(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, st := range lives {
			if st.Phase != wal.PhaseSealed {
				out = append(out, st.Life)
			}
		}
	}
	return out, nil
}

// Lives returns all lives of a broker, oldest first.
func (s *Store) Lives(ctx context.Context, broker int32) ([]wal.StreamState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	prefix := s.keys.lives(broker)
	r, err := s.read(ctx, fmt.Sprintf("list the lives of broker %d", broker), clientv3.OpGet(prefix, clientv3.WithPrefix()))
	if err != nil {
		return nil, err
	}
	byKey := map[string]*mvccpb.KeyValue{}
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		byKey[string(kv.Key)] = kv
	}
	var lives []wal.StreamState
	for key, kv := range byKey {
		inc, ok := strings.CutSuffix(strings.TrimPrefix(key, prefix), "/state")
		if !ok {
			continue
		}
		life, err := wal.ParseLife(fmt.Sprintf("%d/%s", broker, inc))
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key, err)
		}
		st, err := s.stream(life, kv, byKey[s.keys.trim(life)])
		if err != nil {
			return nil, err
		}
		lives = append(lives, st)
	}
	slices.SortFunc(lives, func(a, b wal.StreamState) int {
		return cmp.Or(cmp.Compare(a.Life.Epoch, b.Life.Epoch), strings.Compare(a.Life.String(), b.Life.String()))
	})
	return lives, nil
}

// stream puts together what the registry holds of a life.
func (s *Store) stream(l wal.Life, state, trim *mvccpb.KeyValue) (wal.StreamState, error) {
	if state == nil {
		return wal.StreamState{}, fmt.Errorf("life %s: %w", l, ErrUnknownLife)
	}
	v, err := decode[stateValue](s.keys.state(l), state.Value)
	if err != nil {
		return wal.StreamState{}, err
	}
	st, err := v.stream(l)
	if err != nil {
		return st, err
	}
	st.Rev = state.ModRevision
	if trim != nil {
		t, err := decode[counterValue](s.keys.trim(l), trim.Value)
		if err != nil {
			return st, err
		}
		st.Trim = t.Value
	}
	return st, nil
}

func (s *Store) gets(l wal.Life) []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(s.keys.state(l)), clientv3.OpGet(s.keys.trim(l))}
}

// Load implements wal.Registry.
func (s *Store) Load(ctx context.Context, l wal.Life) (wal.StreamState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.load(ctx, l)
}

func (s *Store) load(ctx context.Context, l wal.Life) (wal.StreamState, error) {
	st, _, err := s.loadAt(ctx, l)
	return st, err
}

// loadAt is load, and tells the revision that etcd was at.
func (s *Store) loadAt(ctx context.Context, l wal.Life) (st wal.StreamState, revision int64, err error) {
	r, err := s.read(ctx, "load life "+l.String(), s.gets(l)...)
	if err != nil {
		return wal.StreamState{}, 0, err
	}
	st, err = s.stream(l, kvAt(r, 0), kvAt(r, 1))
	return st, r.Header.Revision, err
}

// BeginSeal implements wal.Registry (S2). SEALING is never undone.
func (s *Store) BeginSeal(ctx context.Context, l wal.Life, rev int64, sealer string) (wal.StreamState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now, err := s.load(ctx, l)
	if err != nil {
		return now, err
	}
	next, moved := now.BeginSeal(rev, sealer)
	if !moved {
		return now, nil
	}
	return s.move(ctx, now, next)
}

// FinishSeal implements wal.Registry (S6, W8). A life that closes itself without a recovery object loses to a sealer that
// has begun; it finds SEALING in the answer.
func (s *Store) FinishSeal(ctx context.Context, l wal.Life, n int64, digest [32]byte, recoveryKey string) (wal.StreamState, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now, err := s.load(ctx, l)
	if err != nil {
		return now, err
	}
	next, moved := now.FinishSeal(n, digest, recoveryKey)
	switch {
	case moved:
		return s.move(ctx, now, next)
	case now.Phase == wal.PhaseOpen:
		return now, fmt.Errorf("finish the seal of %s: %w: it is OPEN, a seal begins with SEALING (S2)", l, ErrStale)
	}
	return now, nil
}

// move writes the next phase if the stream is still as it was read, and returns what then holds, whoever wrote it.
func (s *Store) move(ctx context.Context, was, to wal.StreamState) (wal.StreamState, error) {
	next := stateValue{header: newHeader(newOp()), Phase: phaseNames[to.Phase], Sealer: to.Sealer}
	if to.Phase == wal.PhaseSealed {
		next.N, next.Digest, next.Recovery = to.N, hex.EncodeToString(to.Digest[:]), to.RecoveryKey
	}
	key := s.keys.state(was.Life)
	r, _, err := s.commit(ctx, write{
		what: fmt.Sprintf("move life %s to %s", was.Life, next.Phase),
		when: []clientv3.Cmp{revIs(key, was.Rev)},
		// The reads come after the put and see it: the same two answers follow in both branches.
		then:   append([]clientv3.Op{clientv3.OpPut(key, encode(next))}, s.gets(was.Life)...),
		orElse: s.gets(was.Life),
	})
	if err != nil {
		return wal.StreamState{}, err
	}
	at := len(r.Responses) - 2
	return s.stream(was.Life, kvAt(r, at), kvAt(r, at+1))
}

// Trim implements wal.Registry (G1). ErrStale: the phase is not the one at rev, or allows no trim.
func (s *Store) Trim(ctx context.Context, l wal.Life, rev int64, t int64) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	what := fmt.Sprintf("trim life %s to %d", l, t)
	for {
		r, err := s.read(ctx, what, s.gets(l)...)
		if err != nil {
			return err
		}
		now, err := s.stream(l, kvAt(r, 0), kvAt(r, 1))
		if err != nil {
			return err
		}
		if err := now.CheckTrim(rev, t); err != nil {
			return fmt.Errorf("%s: %w: %w", what, ErrStale, err)
		}
		if t == now.Trim {
			return nil
		}
		_, ok, err := s.commit(ctx, write{
			what: what,
			when: []clientv3.Cmp{revIs(s.keys.state(l), rev), revIs(s.keys.trim(l), revAt(r, 1))},
			then: []clientv3.Op{clientv3.OpPut(s.keys.trim(l), encode(counterValue{newHeader(newOp()), t}))},
		})
		if err != nil || ok {
			return err
		}
	}
}
