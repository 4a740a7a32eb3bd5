package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// TestPinnedFromTheBeginning: pins are written with partitions, and what an interrupted call left of some is not those of a later one.
func TestPinnedFromTheBeginning(t *testing.T) {
	f := &faults{}
	s := openWith(t, func(c *Config) { c.wrapKV = func(kv kvAPI) kvAPI { f.kvAPI = kv; return f } })
	one := newLife(t, s)
	const n = batchOps + 1 // in several transactions
	spec := TopicSpec{Name: "pinned", Partitions: n, ReplicationFactor: 2}
	for i := range int32(n) {
		spec.Replicas = append(spec.Replicas, []int32{1, 100 + i})
	}
	f.after.Store(1)
	made := s.CreateTopics(t.Context(), []TopicSpec{spec}, allOwnedBy(one))[0]
	if made.Err != nil {
		t.Fatal(made.Err)
	}
	id := made.Topic.ID
	if _, err := s.putParts(t.Context(), "interrupted", newParts{topic: id, from: n, to: n + 2, owner: ownedBy(one), replicas: [][]int32{{7}, {8}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.CreatePartitions(t.Context(), id, n, n+1, ownedBy(one), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.CreatePartitions(t.Context(), id, n+1, n+2, ownedBy(one), [][]int32{{5, 6}}); err != nil {
		t.Fatal(err)
	}
	for i, p := range s.Image().TopicsByID[id].Partitions {
		switch {
		case i == n:
			if p.Pin != nil {
				t.Errorf("partition %d is pinned to %v, which an interrupted call wanted", i, p.Pin.Replicas)
			}
		case p.Pin == nil || p.Owner != one || !slices.Equal(p.Pin.Replicas, append(spec.Replicas, nil, []int32{5, 6})[i]):
			t.Fatalf("partition %d: %+v, pin %+v", i, p, p.Pin)
		}
	}
	if err := s.DeleteTopic(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r, err := s.read(t.Context(), "test", clientv3.OpGet(s.keys.pins(), clientv3.WithPrefix(), clientv3.WithCountOnly()))
	if err != nil || r.Responses[0].GetResponseRange().Count != 0 {
		t.Errorf("pins are left: %v, %v", r, err)
	}
}

// betweenWrites does something once, before the n-th write.
type betweenWrites struct {
	kvAPI
	n  int
	do func()
}

func (b *betweenWrites) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if op.IsTxn() {
		if _, then, _ := op.Txn(); slices.ContainsFunc(then, func(o clientv3.Op) bool { return o.IsPut() || o.IsDelete() }) {
			if b.n--; b.n == 0 {
				b.do()
			}
		}
	}
	return b.kvAPI.Do(ctx, op)
}

// TestPartitionsAddedTwiceAtOnce: of two who add partitions to a topic at the same time one succeeds, with its own owners and pins.
func TestPartitionsAddedTwiceAtOnce(t *testing.T) {
	for _, other := range []struct {
		name     string
		replicas [][]int32
	}{{"without an assignment", nil}, {"with another one", [][]int32{{8}, {9}}}} {
		for write := range 3 {
			t.Run(fmt.Sprintf("%s, before write %d", other.name, write+1), func(t *testing.T) {
				b := &betweenWrites{}
				s := openWith(t, func(c *Config) { c.wrapKV = func(kv kvAPI) kvAPI { b.kvAPI = kv; return b } })
				one, two := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
				id, quick := create(t, s, "t", 3, one).ID, open(t)
				b.n, b.do = write+1, func() {
					if err := quick.CreatePartitions(t.Context(), id, 3, 5, ownedBy(two), other.replicas); err != nil {
						t.Errorf("who is quicker: %v", err)
					}
				}
				if err := s.CreatePartitions(t.Context(), id, 3, 5, ownedBy(one), [][]int32{{6}, {7}}); !errors.Is(err, ErrStale) {
					t.Errorf("who is slower: %v, want ErrStale", err)
				}
				for i, p := range quick.Image().TopicsByID[id].Partitions[3:] {
					if pinned := p.Pin != nil; p.Owner != two || pinned != (other.replicas != nil) || pinned && !slices.Equal(p.Pin.Replicas, other.replicas[i]) {
						t.Errorf("partition %d: %+v, pin %+v", 3+i, p, p.Pin)
					}
				}
				if err := s.CreatePartitions(t.Context(), id, 3, 6, ownedBy(one), [][]int32{{1}, {2}, {3}}); !errors.Is(err, ErrStale) {
					t.Errorf("from a number that is not so any more: %v, want ErrStale", err)
				}
			})
		}
	}
}

// TestReassign: anybody sends partitions elsewhere and pins them; a move ends the intent and leaves the pin, which goes with the topic.
func TestReassign(t *testing.T) {
	f := &faults{}
	s := openWith(t, func(c *Config) { c.wrapKV = func(kv kvAPI) kvAPI { f.kvAPI = kv; return f } })
	one, two := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	const n = reassignBatch + 2
	topic := create(t, s, "reassigned", n, one)
	now := func(i int32) Partition { return s.Image().TopicsByID[topic.ID].Partitions[i] }
	id := func(i int32) protocol.PartitionID { return protocol.PartitionID{Topic: topic.ID, Partition: i} }
	var list []Reassignment
	for i := range int32(n) {
		list = append(list, Reassignment{ID: id(i), To: two, Was: now(i), Pin: PinIsSet, Replicas: []int32{2, 1}})
	}
	f.before.Store(1)
	for i, err := range s.Reassign(t.Context(), list) {
		if err != nil {
			t.Fatalf("partition %d: %v", i, err)
		}
	}
	for i := range int32(n) {
		if p := now(i); p.Owner != one || p.Target != two || p.Pin == nil || !slices.Equal(p.Pin.Replicas, []int32{2, 1}) {
			t.Fatalf("partition %d: %+v, pin %+v", i, p, p.Pin)
		}
	}
	if err := s.Reassign(t.Context(), list[:1])[0]; !errors.Is(err, ErrStale) {
		t.Errorf("over another intent: %v, want ErrStale", err)
	}
	if err := s.Move(t.Context(), one, []Move{moveOf(topic, 0, one, two)})[0]; err != nil {
		t.Fatal(err)
	}
	if p := now(0); p.Owner != two || !p.Target.IsZero() || p.Pin == nil {
		t.Errorf("after the move: %+v", p)
	}
	cancel := Cancelled(id(1), now(1))
	if err := s.Reassign(t.Context(), []Reassignment{cancel})[0]; err != nil {
		t.Fatal(err)
	}
	if p := now(1); p.Owner != one || !p.Target.IsZero() || p.Pin != nil {
		t.Errorf("after it was cancelled: %+v", p)
	}
	other := open(t)
	if p := other.Image().TopicsByID[topic.ID].Partitions; p[2].Target != two || p[2].Pin == nil || p[1].Pin != nil {
		t.Errorf("another reader: %+v", p[:3])
	}
	if err := s.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{s.keys.pins(), s.keys.intents()} {
		if r, err := s.read(t.Context(), "look", clientv3.OpGet(prefix, clientv3.WithPrefix())); err != nil || len(r.Responses[0].GetResponseRange().Kvs) > 0 {
			t.Errorf("left below %s: %v, %v", prefix, r, err)
		}
	}
}

// TestReassignWhileMoving: an intent that is written while its partition is on its way elsewhere is the new owner's.
func TestReassignWhileMoving(t *testing.T) {
	s := open(t)
	one, two := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "moving", 1, one)
	id := protocol.PartitionID{Topic: topic.ID}
	send := func(to wal.Life) {
		was := s.Image().TopicsByID[topic.ID].Partitions[0]
		if err := s.Reassign(t.Context(), []Reassignment{{ID: id, To: to, Was: was}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	send(two)
	moves := []Move{moveOf(topic, 0, one, two)}
	w, err := s.moveWrite(t.Context(), "test", one, moves)
	if err != nil {
		t.Fatal(err)
	}
	three := must[wal.Life](t)(s.OpenLife(t.Context(), 3))
	send(three)
	if _, ok, err := s.commit(t.Context(), w); err != nil || !ok {
		t.Fatalf("the move: %v, %v", ok, err)
	}
	s.until(t.Context(), func(i *Image) bool { return i.TopicsByID[topic.ID].Partitions[0].Owner == two })
	if p := s.Image().TopicsByID[topic.ID].Partitions[0]; p.Target != three {
		t.Errorf("%+v, want the target %v", p, three)
	}
}

// TestPlanAgainstPin: the controller does not overrule a pin that it has not seen.
func TestPlanAgainstPin(t *testing.T) {
	s := open(t)
	one, two := newLife(t, s), must[wal.Life](t)(s.OpenLife(t.Context(), 2))
	topic := create(t, s, "pinned", 1, one)
	r := must[*Registration](t)(s.Register(t.Context(), one, BrokerInfo{Host: "a", Port: 1}))
	c, _, err := r.Campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, was := protocol.PartitionID{Topic: topic.ID}, topic.Partitions[0]
	if err := s.Reassign(t.Context(), []Reassignment{{ID: id, To: one, Was: was, Pin: PinIsSet, Replicas: []int32{1}}})[0]; err != nil {
		t.Fatal(err)
	}
	planned := Intent{ID: id, To: two, PartRev: was.Rev}
	if n, err := s.Assign(t.Context(), c, []Intent{planned}); n != 0 || err != nil {
		t.Errorf("assigned %d, %v", n, err)
	}
	planned.PinRev = s.Image().TopicsByID[topic.ID].Partitions[0].Pin.Rev
	if n, err := s.Assign(t.Context(), c, []Intent{planned}); n != 1 || err != nil {
		t.Errorf("a drain, which has seen the pin, assigned %d, %v", n, err)
	}
}

// TestDrainMark: it is of the id, whether or not there is such a broker, and stays until it is taken back.
func TestDrainMark(t *testing.T) {
	s := open(t)
	if err := s.SetDrain(t.Context(), 1, true); err != nil {
		t.Fatal(err)
	}
	l := newLife(t, s)
	must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "a", Port: 1}))
	other := open(t)
	for _, i := range []*Image{s.Image(), other.Image()} {
		if b := i.Brokers[1]; !b.Draining || b.Host != "a" || !i.Drains[1] {
			t.Errorf("%+v, marks %v", b, i.Drains)
		}
	}
	if err := s.SetDrain(t.Context(), 1, false); err != nil {
		t.Fatal(err)
	}
	if b := s.Image().Brokers[1]; b.Draining || s.Image().Drains[1] {
		t.Errorf("%+v after it was taken back", b)
	}
}
