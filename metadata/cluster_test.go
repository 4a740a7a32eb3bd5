package metadata

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/metadata/etcdembed"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

func TestTopicNamesAreUnique(t *testing.T) {
	a, b := open(t), open(t)
	l := newLife(t, a)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, s := range []*Store{a, b} {
		wg.Go(func() {
			errs[i] = s.CreateTopics(t.Context(), []TopicSpec{{Name: "same", Partitions: 1}}, allOwnedBy(l))[0].Err
		})
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), ErrTopicExists) {
		t.Errorf("two creations: got %v", errs)
	}
	create(t, a, "x.y", 1, l)
	r := b.CreateTopics(t.Context(), []TopicSpec{{Name: "x_y", Partitions: 1}, {Name: "z"}}, allOwnedBy(l))
	if !errors.Is(r[0].Err, ErrTopicCollides) || !errors.Is(r[1].Err, ErrPartitionCount) {
		t.Errorf("got %v and %v", r[0].Err, r[1].Err)
	}
}

func TestManyPartitionsAppearAtOnce(t *testing.T) {
	s, other := open(t), open(t)
	l := newLife(t, s)
	topic := create(t, s, "big", 2*batchOps+1, l)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(must[[]PartitionState](t)(s.Partitions(t.Context()))); got != len(topic.Partitions) {
		t.Errorf("got %d partitions, want %d", got, len(topic.Partitions))
	}
	other.until(t.Context(), func(i *Image) bool { return i.TopicsByID[topic.ID] != nil })
	for i, p := range other.Image().TopicsByID[topic.ID].Partitions {
		if p != topic.Partitions[i] || p.Owner != l {
			t.Fatalf("partition %d: image has %+v, want %+v", i, p, topic.Partitions[i])
		}
	}
}

func TestSweepMakesUnfinishedCreationFail(t *testing.T) {
	s := open(t)
	l := newLife(t, s)
	id := protocol.TopicID{1}
	spec := TopicSpec{Name: "t", Partitions: 150}
	parts := must[[]Partition](t)(s.putParts(t.Context(), "test", newParts{topic: id, to: 150, owner: ownedBy(l)}, nil))
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if topic, _, err := s.publishTopic(t.Context(), "test", spec, id, parts[0].Rev, nil); topic != nil || err != nil {
		t.Errorf("got %v, %v for a swept topic", topic, err)
	}
	if r := must[*clientv3.GetResponse](t)(s.client.Get(t.Context(), s.keys.allParts(), clientv3.WithPrefix())); r.Count != 0 {
		t.Errorf("%d records remain", r.Count)
	}
}

func TestSealersAndClaimsRace(t *testing.T) {
	a, b := open(t), open(t)
	l := newLife(t, a)
	create(t, a, "t", 90, l)
	st := must[wal.StreamState](t)(a.Load(t.Context(), l))
	var wg sync.WaitGroup
	var got [2]wal.StreamState
	lives := [2]wal.Life{newLife(t, a), newLife(t, b)}
	for i, s := range []*Store{a, b} {
		wg.Go(func() {
			me := fmt.Sprint("sealer", i)
			if _, err := s.BeginSeal(t.Context(), l, st.Rev, me); err != nil {
				t.Error(err)
			}
			var err error
			if got[i], err = s.FinishSeal(t.Context(), l, int64(i), [32]byte{}, me); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got[0] != got[1] || got[0].Phase != wal.PhaseSealed {
		t.Fatalf("sealers disagree: %+v, %+v", got[0], got[1])
	}
	claims := [2][]Claim{claimsOf(t, a, l, lives[0]), claimsOf(t, b, l, lives[1])}
	var errs [2]error
	for i, s := range []*Store{a, b} {
		wg.Go(func() { errs[i] = s.Claim(t.Context(), lives[i], claims[i]) })
	}
	wg.Wait()
	if errs[0] == nil && errs[1] == nil {
		t.Error("both claims of the same partitions succeeded")
	}
	for _, p := range must[[]PartitionState](t)(a.Partitions(t.Context())) {
		if p.Owner != l && (p.LeaderEpoch != 1 || len(p.History) != 2 || p.History[1].Life != p.Owner) {
			t.Errorf("torn claim: %+v", p)
		}
	}
}

func TestCloseLosesToSealer(t *testing.T) {
	s := open(t)
	l := newLife(t, s)
	st := must[wal.StreamState](t)(s.Load(t.Context(), l))
	must[wal.StreamState](t)(s.BeginSeal(t.Context(), l, st.Rev, "x"))
	if got := must[wal.StreamState](t)(s.FinishSeal(t.Context(), l, 3, [32]byte{}, "")); got.Phase != wal.PhaseSealing {
		t.Errorf("got %+v, want SEALING kept", got)
	}
	closed := newLife(t, s)
	if got := must[wal.StreamState](t)(s.FinishSeal(t.Context(), closed, 3, [32]byte{}, "")); got.Phase != wal.PhaseSealed || got.N != 3 {
		t.Errorf("got %+v, want SEALED (W8)", got)
	}
	if _, err := s.Register(t.Context(), closed, BrokerInfo{}); !errors.Is(err, ErrFenced) {
		t.Errorf("register a sealed life: %v", err)
	}
	r := s.CreateTopics(t.Context(), []TopicSpec{{Name: "t", Partitions: 1}}, allOwnedBy(closed))
	if !errors.Is(r[0].Err, ErrStale) {
		t.Errorf("topic owned by a sealed life: %v", r[0].Err)
	}
	if _, err := s.Load(t.Context(), wal.Life{Broker: 9}); !errors.Is(err, ErrUnknownLife) {
		t.Errorf("got %v, want ErrUnknownLife", err)
	}
	lives := must[[]wal.StreamState](t)(s.Lives(t.Context(), 1))
	if len(lives) != 2 || lives[0].Life != l || lives[1].Life != closed {
		t.Errorf("lives: %+v", lives)
	}
}

// TestImageSurvivesCompaction starts a watch behind the compacted history.
func TestImageSurvivesCompaction(t *testing.T) {
	s := open(t)
	l := newLife(t, s)
	create(t, s, "t", 1, l)
	st := newState(s.keys)
	if err := s.list(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	create(t, s, "u", 1, l)
	if _, err := s.client.Compact(t.Context(), s.Image().Revision); err != nil {
		t.Fatal(err)
	}
	if err := s.follow(st); err == nil {
		t.Fatal("a watch behind the compaction went on")
	}
	if err := s.list(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	if img := st.image(nil); img.Topics["u"] == nil || img.Topics["t"] == nil {
		t.Errorf("topics after the new list: %v", img.Topics)
	}
}

func TestEtcdStopsAndReturns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "e")
	srv := must[*etcdembed.Server](t)(etcdembed.Start(t.Context(), dir, nil))
	s := openWith(t, func(c *Config) {
		c.Endpoints, c.LeaseTTL = srv.Endpoints(), time.Second
	})
	l := newLife(t, s)
	create(t, s, "t", 1, l)
	reg := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "h"}))
	srv.Close()
	if s.Image().Topics["t"] == nil {
		t.Error("the image is gone with etcd")
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.OpenLife(short, 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	<-time.After(2 * time.Second) // longer than the lease
	srv = must[*etcdembed.Server](t)(etcdembed.Start(t.Context(), dir, nil))
	t.Cleanup(srv.Close)
	s.until(t.Context(), func(*Image) bool { _, err := s.Load(t.Context(), l); return err == nil })
	create(t, s, "u", 1, l)
	if s.Image().Topics["u"] == nil {
		t.Error("the watch did not come back")
	}
	// Whoever loses its lease after its life was sealed is told.
	seal(t, s, l, 0)
	if _, err := s.client.Revoke(t.Context(), reg.leaseID()); err != nil {
		t.Log(err)
	}
	<-reg.Fenced()
}
