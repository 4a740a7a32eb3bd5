package metadata

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Controller is the broker that plans where partitions go. Being it allows nothing but to write intents; safety does not rest on it.
type Controller struct {
	Life wal.Life
	// Rev is etcd's revision of the record: intents compare it, so that one who lost the office writes none.
	Rev int64
}

// Intent sends a partition to a life: its owner gives it up, or, when the owner's log has ended, the target claims it.
type Intent struct {
	ID protocol.PartitionID
	// To is the zero Life to take an intent back.
	To wal.Life
	// PartRev is etcd's revision of the ownership record that the intent was planned for.
	PartRev int64
	// PinRev is that of the partition's pin, 0 without one: a plan does not overrule an operator who was quicker.
	PinRev int64
}

// Campaign makes the registered broker the controller if there is none, under its liveness lease: the office ends with it. It
// reports whether the broker is the controller now.
func (r *Registration) Campaign(ctx context.Context) (Controller, bool, error) {
	s := r.store
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key, op := s.keys.controller(), newOp()
	answer, ok, err := s.commit(ctx, write{
		what:   "campaign of " + r.life.String(),
		when:   []clientv3.Cmp{revIs(key, 0)},
		then:   []clientv3.Op{clientv3.OpPut(key, encode(controllerValue{newHeader(op), r.life.String()}), clientv3.WithLease(r.leaseID()))},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
		mine:   func(t *clientv3.TxnResponse) bool { return opAt(t, 0, op) },
	})
	if err != nil {
		return Controller{}, false, err
	}
	if answer.Succeeded {
		s.seen(ctx, answer.Header.Revision)
		return Controller{Life: r.life, Rev: answer.Header.Revision}, true, nil
	}
	c, err := controllerOf(kvAt(answer, 0))
	if err == nil {
		s.seen(ctx, c.Rev)
	}
	return c, ok || c.Life == r.life, err
}

func controllerOf(kv *kvPair) (Controller, error) {
	if kv == nil {
		return Controller{}, nil
	}
	v, err := decode[controllerValue](string(kv.Key), kv.Value)
	if err != nil {
		return Controller{}, err
	}
	life, err := wal.ParseLife(v.Life)
	if err != nil {
		return Controller{}, fmt.Errorf("value of %s: %w", kv.Key, err)
	}
	return Controller{Life: life, Rev: kv.ModRevision}, nil
}

// assignBatch intents take two comparisons each, and one is of the office: 121 of etcd's 128.
const assignBatch = 60

// Assign writes intents, in transactions of assignBatch. A batch in which anything has changed since it was planned is left out: the
// next plan sees it. It returns how many were written. ErrStale: by is not the controller any more.
func (s *Store) Assign(ctx context.Context, by Controller, intents []Intent) (written int, err error) {
	var last int64
	for len(intents) > 0 {
		n := min(assignBatch, len(intents))
		rev, err := s.assignSome(ctx, by, intents[:n])
		if err != nil {
			return written, err
		}
		if rev > 0 {
			written, last = written+n, rev
		}
		intents = intents[n:]
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.seen(ctx, last)
	return written, nil
}

func (s *Store) assignSome(ctx context.Context, by Controller, intents []Intent) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	op, office := newOp(), s.keys.controller()
	w := write{
		what: fmt.Sprintf("assign %d partitions from %s", len(intents), intents[0].ID),
		when: []clientv3.Cmp{revIs(office, by.Rev)}, orElse: []clientv3.Op{clientv3.OpGet(office)},
	}
	for _, in := range intents {
		w.when = append(w.when, revIs(s.keys.part(in.ID), in.PartRev), revIs(s.keys.pin(in.ID), in.PinRev))
		if in.To == (wal.Life{}) {
			w.then = append(w.then, clientv3.OpDelete(s.keys.intent(in.ID)))
			continue
		}
		w.then = append(w.then, clientv3.OpPut(s.keys.intent(in.ID), encode(intentValue{newHeader(op), in.To.String()})))
	}
	r, ok, err := s.commit(ctx, w)
	switch {
	case err != nil:
		return 0, err
	case ok:
		return r.Header.Revision, nil
	case revAt(r, 0) != by.Rev:
		return 0, fmt.Errorf("%s: %w: %s is not the controller", w.what, ErrStale, by.Life)
	}
	return 0, nil
}
