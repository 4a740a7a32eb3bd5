package metadata

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// betweenKV does something behind a write that was applied, whose answer is lost for after and not for second.
type betweenKV struct {
	kvAPI
	after, second func()
}

func (f *betweenKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	writes := false
	if op.IsTxn() {
		_, then, _ := op.Txn()
		for _, o := range then {
			writes = writes || o.IsPut() || o.IsDelete()
		}
	}
	r, err := f.kvAPI.Do(ctx, op)
	if g := f.second; writes && g != nil {
		f.second = nil
		g()
		return r, err
	}
	if g := f.after; writes && g != nil {
		f.after = nil
		g()
		if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
			sent.Store(true)
		}
		return clientv3.OpResponse{}, errInjected
	}
	return r, err
}

// TestMoveLongHistories: partitions with long histories are moved in smaller transactions.
func TestMoveLongHistories(t *testing.T) {
	s := open(t)
	from, to := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "moved", moveBatchMax, from)
	var moves []Move
	for i := range int32(moveBatchMax) {
		m := moveOf(topic, i, from, to)
		m.History = nil
		for e := range int32(800) {
			m.History = append(m.History, EpochStart{Epoch: e, Start: int64(e) * 1000000, Life: from})
		}
		moves = append(moves, m)
	}
	for i, err := range s.Move(t.Context(), from, moves) {
		if err != nil {
			t.Fatalf("partition %d: %v", i, err)
		}
	}
}

// TestDrainingOverLaterLife: a stopping broker writes its key over that of a later life, and then revokes the lease.
func TestDrainingOverLaterLife(t *testing.T) {
	s := open(t)
	old := newLife(t, s)
	r := must[*Registration](t)(s.Register(t.Context(), old, BrokerInfo{Host: "a", Port: 1}))
	next := newLife(t, s)
	seal(t, s, old, 0)
	must[*Registration](t)(s.Register(t.Context(), next, BrokerInfo{Host: "b", Port: 1}))
	if err := r.SetDraining(t.Context(), true); !errors.Is(err, ErrFenced) {
		t.Errorf("the stopping broker is told %v, want ErrFenced", err)
	}
	if err := r.Unregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), s.keys.broker(1)))
	if len(k.Kvs) == 0 {
		t.Error("the later life, which lives, is not registered any more")
	}
}

// goneKV is an etcd that goes away.
type goneKV struct {
	*betweenKV
	away bool
}

func (f *goneKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if f.away {
		return clientv3.OpResponse{}, errInjected
	}
	r, err := f.betweenKV.Do(ctx, op)
	return r, err
}

// TestMoveWithLostAnswerThenAway: a batch is applied, its answer is lost, its first partition moves on, so that the batch is refused, and etcd goes
// away: nobody is told that nothing was written.
func TestMoveWithLostAnswerThenAway(t *testing.T) {
	var f *goneKV
	s := openWith(t, func(c *Config) {
		c.wrapKV = func(kv kvAPI) kvAPI { f = &goneKV{betweenKV: &betweenKV{kvAPI: kv}}; return f }
	})
	other := openWith(t, func(c *Config) { c.Name = "TestMoveWithLostAnswerThenAway" })
	from, to := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	third := must[wal.Life](t)(s.OpenLife(t.Context(), 3))
	topic := create(t, s, "moved", 3, from)
	var moves []Move
	for i := range int32(3) {
		moves = append(moves, moveOf(topic, i, from, to))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.after = func() {
		on := moveOf(topic, 0, to, third)
		on.LeaderEpoch, on.PrevVersion, on.Manifest.Version = 2, 1, 2
		if err := other.Move(t.Context(), to, []Move{on})[0]; err != nil {
			t.Error(err)
		}
		f.after = nil
		f.betweenKV.second = func() { f.away = true; cancel() }
	}
	out := s.Move(ctx, from, moves)
	states := must[[]PartitionState](t)(other.States(t.Context(), []protocol.PartitionID{moves[0].ID, moves[1].ID, moves[2].ID}))
	for i := range moves {
		if errors.Is(out[i], ErrUnavailable) && states[i].Owner != from {
			t.Errorf("partition %d has moved; its old owner is told ErrUnavailable: nothing was written", i)
		}
	}
}
