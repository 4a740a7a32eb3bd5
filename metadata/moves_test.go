package metadata

import (
	"errors"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// moveOf makes the move of a partition that has had no manifest and holds no record.
func moveOf(topic *Topic, i int32, from, to wal.Life) Move {
	return Move{
		ID: protocol.PartitionID{Topic: topic.ID, Partition: i}, To: to, LeaderEpoch: 1,
		History:  []EpochStart{{Epoch: 0, Life: from}, {Epoch: 1, Life: to}},
		Manifest: ManifestPointer{Version: 1, Key: "manifest/x", Pos: int64(i), Len: 1},
	}
}

// TestMove: many partitions change owner in few transactions, with their manifests, and intents are gone; answers that are lost or that
// tell of nothing change nothing about that.
func TestMove(t *testing.T) {
	f := &faults{}
	s := openWith(t, func(c *Config) { c.wrapKV = func(kv kvAPI) kvAPI { f.kvAPI = kv; return f } })
	from, to := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	const n = 2*moveBatchMax + 1
	topic := create(t, s, "moved", n, from)
	var moves []Move
	for i := range int32(n) {
		moves = append(moves, moveOf(topic, i, from, to))
	}
	f.before.Store(1)
	f.after.Store(1)
	for i, err := range s.Move(t.Context(), from, moves) {
		if err != nil {
			t.Fatalf("partition %d: %v", i, err)
		}
	}
	for i, p := range s.Image().TopicsByID[topic.ID].Partitions {
		if p.Owner != to || p.LeaderEpoch != 1 {
			t.Fatalf("partition %d: %+v, want owner %s", i, p, to)
		}
	}
	ids := []protocol.PartitionID{moves[n-1].ID, {Topic: topic.ID, Partition: n}, moves[0].ID}
	states := must[[]PartitionState](t)(s.States(t.Context(), ids))
	if len(states) != 2 || states[0].ID != ids[0] || states[0].Manifest == nil || states[0].Manifest.Pos != n-1 || states[1].ID != ids[2] {
		t.Errorf("States: %+v", states)
	}
	gone := create(t, s, "gone", 2, to)
	if err := s.DeleteTopic(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	back := []Move{moveOf(gone, 0, to, from), moveOf(topic, 0, to, from), moveOf(topic, 1, to, from)}
	for i := range back {
		back[i].LeaderEpoch, back[i].PrevVersion, back[i].Manifest.Version = 2, 1, 2
	}
	back[2].LeaderEpoch = 7
	if out := s.Move(t.Context(), to, back); !errors.Is(out[0], ErrUnknownTopic) || out[1] != nil || !errors.Is(out[2], ErrStale) {
		t.Errorf("of a deleted partition, a good one and a wrong epoch: %v", out)
	}
	if err := s.Move(t.Context(), from, moves[1:2])[0]; !errors.Is(err, ErrStale) {
		t.Errorf("a move by who is not the owner any more: %v, want ErrStale", err)
	}
}

// TestMoveNeedsOpenLives: neither a life that is being ended gives partitions away, nor one takes them.
func TestMoveNeedsOpenLives(t *testing.T) {
	s := open(t)
	from, to := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "moved", 2, from)
	seal(t, s, to, 0)
	if err := s.Move(t.Context(), from, []Move{moveOf(topic, 0, from, to)})[0]; !errors.Is(err, ErrStale) {
		t.Errorf("to a sealed life: %v, want ErrStale", err)
	}
	to = must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	st := must[wal.StreamState](t)(s.Load(t.Context(), from))
	must[wal.StreamState](t)(s.BeginSeal(t.Context(), from, st.Rev, "test"))
	if err := s.Move(t.Context(), from, []Move{moveOf(topic, 1, from, to)})[0]; !errors.Is(err, ErrStale) {
		t.Errorf("from a life that is SEALING: %v, want ErrStale", err)
	}
}

// TestMoveAgainstSeal: of a move and the beginning of a seal that race, either the partition moved before, or it did not and the sealer
// finds it: it is never moved by a life that was SEALING already.
func TestMoveAgainstSeal(t *testing.T) {
	a, b := open(t), open(t)
	for range 20 {
		from, to := newLife(t, a), must[wal.Life](t)(a.OpenLife(t.Context(), 2))
		name := "race" + from.String()[2:18]
		topic := create(t, a, name, 1, from)
		var moved error
		var sealing wal.StreamState
		var wg sync.WaitGroup
		wg.Go(func() { moved = a.Move(t.Context(), from, []Move{moveOf(topic, 0, from, to)})[0] })
		wg.Go(func() {
			st, err := b.Load(t.Context(), from)
			if err == nil {
				sealing, err = b.BeginSeal(t.Context(), from, st.Rev, "test")
			}
			if err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		st := must[[]PartitionState](t)(a.States(t.Context(), []protocol.PartitionID{{Topic: topic.ID}}))[0]
		switch {
		case moved == nil && (st.Owner != to || st.Rev > sealing.Rev):
			t.Fatalf("moved at revision %d to %v, sealing since %d", st.Rev, st.Owner, sealing.Rev)
		case moved != nil && (!errors.Is(moved, ErrStale) || st.Owner != from):
			t.Fatalf("not moved, %v, but the owner is %v", moved, st.Owner)
		}
	}
}

// TestIntents: only the controller writes them, only for partitions as they were planned; an owner's move ends them.
func TestIntents(t *testing.T) {
	s := open(t)
	one, two := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "planned", 3, one)
	r1 := must[*Registration](t)(s.Register(t.Context(), one, BrokerInfo{Host: "a", Port: 1}))
	r2 := must[*Registration](t)(s.Register(t.Context(), two, BrokerInfo{Host: "b", Port: 2}))
	c, is, err := r1.Campaign(t.Context())
	if err != nil || !is || c.Life != one || s.Image().Controller != c {
		t.Fatalf("campaign: %+v, %v, %v; image has %+v", c, is, err, s.Image().Controller)
	}
	if other, is, err := r2.Campaign(t.Context()); err != nil || is || other != c {
		t.Fatalf("second campaign: %+v, %v, %v", other, is, err)
	}
	intent := func(i int32, to wal.Life) Intent {
		return Intent{ID: protocol.PartitionID{Topic: topic.ID, Partition: i}, To: to, PartRev: topic.Partitions[i].Rev}
	}
	if n, err := s.Assign(t.Context(), c, []Intent{intent(0, two), intent(1, two)}); n != 2 || err != nil {
		t.Fatalf("assigned %d, %v", n, err)
	}
	if p := s.Image().TopicsByID[topic.ID].Partitions; p[0].Target != two || p[1].Target != two || p[2].Target != (wal.Life{}) {
		t.Fatalf("the image shows %+v", p)
	}
	if n, err := s.Assign(t.Context(), c, []Intent{intent(1, wal.Life{})}); n != 1 || err != nil {
		t.Fatalf("took %d back, %v", n, err)
	}
	stale := intent(2, two)
	stale.PartRev--
	if n, err := s.Assign(t.Context(), c, []Intent{stale}); n != 0 || err != nil {
		t.Fatalf("assigned %d as of an older record, %v", n, err)
	}
	if err := s.Move(t.Context(), one, []Move{moveOf(topic, 0, one, two)})[0]; err != nil {
		t.Fatal(err)
	}
	if p := s.Image().TopicsByID[topic.ID].Partitions; p[0].Owner != two || p[0].Target != (wal.Life{}) || p[1].Target != (wal.Life{}) {
		t.Fatalf("after the move the image shows %+v", p)
	}
	if err := r1.Unregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until(t.Context(), func(i *Image) bool { return i.Controller == Controller{} })
	if _, err := s.Assign(t.Context(), c, []Intent{intent(1, two)}); !errors.Is(err, ErrStale) {
		t.Fatalf("who is not the controller any more assigned: %v", err)
	}
	if c, is, err := r2.Campaign(t.Context()); err != nil || !is || c.Life != two {
		t.Fatalf("campaign after the office was left: %+v, %v, %v", c, is, err)
	}
	if err := s.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
}

// TestLeasedIDs: brokers without a name get ids that nobody has, and one that was given back is used again, at the same address only.
func TestLeasedIDs(t *testing.T) {
	s, other := open(t), open(t)
	lives := make([]wal.Life, 6)
	var wg sync.WaitGroup
	for i := range lives {
		by := s
		if i%2 == 1 {
			by = other
		}
		wg.Go(func() { lives[i] = must[wal.Life](t)(by.OpenLeasedLife(t.Context(), 1, "here:1")) })
	}
	wg.Wait()
	seen := map[int32]wal.Life{}
	for _, l := range lives {
		if l.Broker < 1 || l.Broker > 6 || seen[l.Broker] != (wal.Life{}) {
			t.Fatalf("ids %v", lives)
		}
		seen[l.Broker] = l
	}
	seal(t, s, seen[3], 0)
	if l := must[wal.Life](t)(s.OpenLeasedLife(t.Context(), 1, "there:1")); l.Broker != 7 {
		t.Errorf("got %v at another address, want broker 7", l)
	}
	if l := must[wal.Life](t)(s.OpenLeasedLife(t.Context(), 1, "here:1")); l.Broker != 3 || l.Epoch != 2 {
		t.Errorf("got %v, want the second life of broker 3", l)
	}
}

// TestAbandonedLives: what is open and not registered of an address is abandoned.
func TestAbandonedLives(t *testing.T) {
	s := open(t)
	lease := func(address string) wal.Life { return must[wal.Life](t)(s.OpenLeasedLife(t.Context(), 1, address)) }
	left, elsewhere, ended, alive := lease("here:1"), lease("there:1"), lease("here:1"), lease("here:1")
	seal(t, s, ended, 0)
	r := must[*Registration](t)(s.Register(t.Context(), alive, BrokerInfo{Host: "here", Port: 1}))
	if got := must[[]wal.Life](t)(s.AbandonedLives(t.Context(), "here:1")); len(got) != 1 || got[0] != left {
		t.Errorf("abandoned are %v, want %v; %v is elsewhere", got, left, elsewhere)
	}
	if err := r.Unregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until(t.Context(), func(i *Image) bool { return len(i.Brokers) == 0 })
	if got := must[[]wal.Life](t)(s.AbandonedLives(t.Context(), "here:1")); len(got) != 2 {
		t.Errorf("abandoned are %v, want %v and %v", got, left, alive)
	}
}

// TestDraining: what a broker says of itself is seen by others, and stays when it announces itself anew.
func TestDraining(t *testing.T) {
	s := open(t)
	l := newLife(t, s)
	r := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "a", Port: 1}))
	if err := r.SetDraining(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if b := s.Image().Brokers[1]; !b.Draining || b.Host != "a" {
		t.Fatalf("the image shows %+v", b)
	}
	old := r.leaseID()
	if _, err := s.client.Revoke(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new lease", func() bool { return r.leaseID() != old })
	key := must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), s.keys.broker(1)))
	if len(key.Kvs) != 1 {
		t.Fatal("a broker with a lease is not announced")
	}
	s.until(t.Context(), func(i *Image) bool { return i.Revision >= key.Kvs[0].ModRevision })
	if b := s.Image().Brokers[1]; !b.Draining || b.Host != "a" {
		t.Errorf("announced anew it is %+v", b)
	}
}
