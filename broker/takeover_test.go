package broker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/proctest"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/wal"
)

// sealGate holds the first PUT of a recovery object: that of a broker that seals its previous life.
type sealGate struct {
	objectstore.Store
	once sync.Once
	wait func()
}

func (s *sealGate) Put(ctx context.Context, key string, body []byte) error {
	if strings.HasPrefix(key, "recovery/") {
		s.once.Do(s.wait)
	}
	return s.Store.Put(ctx, key, body)
}

// ended checks that the broker ended because another took over.
func (b *testBroker) ended(err error) {
	b.t.Helper()
	b.stop = nil
	if !errors.Is(err, metadata.ErrFenced) && !errors.Is(err, wal.ErrFenced) {
		b.t.Errorf("the broker ended with %v", err)
	}
}

// TestIdleBrokerIsFencedByItsSuccessor starts a second broker with the same id and the same advertised address, as a
// Deployment does that surges. The first one has nothing to write, and must not serve stale reads for ever.
func TestIdleBrokerIsFencedByItsSuccessor(t *testing.T) {
	etcd := startEtcd(t)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir(), "--broker-id", "7", "--advertise", proctest.FreeAddress(t)}
	old := startBroker(t, shared...)
	dial(t, old.kafka).createTopic("t", 1)
	if p := dial(t, old.kafka).produce("t", 0, batchOf("a")); p.ErrorCode != 0 {
		t.Fatalf("produce: code %d", p.ErrorCode)
	}
	next := startBroker(t, shared...)
	select {
	case err := <-old.stopped:
		old.ended(err)
	case <-time.After(20 * time.Second):
		t.Fatal("the broker goes on beside its successor")
	}
	if p := dial(t, next.kafka).produce("t", 0, batchOf("b")); p.ErrorCode != 0 || p.BaseOffset != 1 {
		t.Errorf("produce to the second: code %d, offset %d", p.ErrorCode, p.BaseOffset)
	}
}

// TestTwoStartsOfOneBroker lets two processes with one id seal the same previous life before either begins its own. One
// of them must end and the other serve everything.
func TestTwoStartsOfOneBroker(t *testing.T) {
	etcd := startEtcd(t)
	openPreviousLife(t, etcd)
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir(), "--broker-id", "7"}
	sealing, release := make(chan struct{}), make(chan struct{})
	late := prepareBroker(t, func(s objectstore.Store) objectstore.Store {
		return &sealGate{Store: s, wait: func() { close(sealing); <-release }}
	}, shared...)
	late.begin()
	<-sealing // it has asked which lives and brokers there are
	early := startBroker(t, shared...)
	if p := dial(t, early.kafka).produce("t", 0, batchOf("a")); p.ErrorCode != 0 {
		t.Fatalf("produce to the early one: code %d", p.ErrorCode)
	}
	close(release)
	rest := late
	select {
	case err := <-early.stopped:
		early.ended(err)
	case err := <-late.stopped:
		late.ended(err)
		rest = early
	case <-time.After(20 * time.Second):
		t.Fatal("two brokers with one id go on")
	}
	rest.awaitReady()
	c := dial(t, rest.kafka)
	for i, want := range []int64{1, 0, 0} {
		if p := c.produce("t", int32(i), batchOf("b")); p.ErrorCode != 0 || p.BaseOffset != want {
			t.Errorf("produce to partition %d of the one that is left: code %d, offset %d, want 0 and %d", i, p.ErrorCode, p.BaseOffset, want)
		}
	}
}

// openPreviousLife leaves what a broker leaves that created a topic and was killed.
func openPreviousLife(t *testing.T, etcd *externalEtcd) {
	t.Helper()
	meta, err := metadata.Open(t.Context(), metadata.Config{Endpoints: []string{etcd.ln.Addr().String()}, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	if _, err := meta.EnsureCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	life, err := meta.OpenLife(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	spec := metadata.TopicSpec{Name: "t", Partitions: 3, ReplicationFactor: 1}
	r := meta.CreateTopics(t.Context(), []metadata.TopicSpec{spec}, func(int, int32) wal.Life { return life })
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
}
