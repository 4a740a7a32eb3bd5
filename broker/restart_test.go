package broker

import (
	"testing"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// TestStartUnderAnotherID: a broker that is alone crashes and starts with another id; it serves what it had.
func TestStartUnderAnotherID(t *testing.T) {
	b := startBroker(t, "--broker-id", "1")
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	wantCode(t, "produce", c.produce("t", 0, batchOf("a")).ErrorCode, protocol.CodeNone)
	b.vanish()
	b.args = []string{"--broker-id", "2"}
	b.start()
	if p := dial(t, b.kafka).produce("t", 0, batchOf("b")); p.ErrorCode != 0 || p.BaseOffset != 1 {
		t.Errorf("produce: code %d, offset %d", p.ErrorCode, p.BaseOffset)
	}
}

// TestCrashLoopLeasesOneID: a broker that leases its id and crashes again and again, alone and before it owns anything, leaves no life open.
func TestCrashLoopLeasesOneID(t *testing.T) {
	b := startBroker(t, "--cluster", startEtcd(t).url(), "--bucket", "file://"+t.TempDir())
	for range 4 {
		b.vanish()
		b.start()
	}
	if id := b.broker.life.Broker; id > 2 { // the one before is ended once the next has begun
		t.Errorf("it leased id %d", id)
	}
	all, err := b.broker.meta.AllLives(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		if st.Life != b.broker.life && st.Phase != wal.PhaseSealed {
			t.Errorf("life %v is %v", st.Life, st.Phase)
		}
	}
}
