package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

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
	shared := []string{"--cluster", etcd.url(), "--bucket", "file://" + t.TempDir(), "--broker-id", "7", "--advertise", freePort(t)}
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
