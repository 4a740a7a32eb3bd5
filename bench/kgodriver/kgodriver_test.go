package kgodriver

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func value(due time.Time, producer, sequence uint64) []byte {
	v := binary.BigEndian.AppendUint64(nil, uint64(due.UnixNano()))
	return binary.BigEndian.AppendUint64(v, producer<<48|sequence)
}

// TestConsumerSees checks that what is lost, doubled or out of order cannot pass for good.
func TestConsumerSees(t *testing.T) {
	now := time.Now()
	w := window{now.Add(-time.Second), now}
	p := &producer{latency: histogram(), delay: histogram(), sent: 6, window: w}
	c, err := newConsumer(Load{Addr: "127.0.0.1:1", Topic: "none", Producers: 1}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer c.client.Close()
	for _, sequence := range []uint64{0, 1, 3, 2, 3} { // 2 out of order, 3 twice, 4 and 5 lost
		if c.see(&kgo.Record{Value: value(now.Add(-100*time.Millisecond), 0, sequence)}, now) {
			c.unique++
		}
	}
	r := Load{RecordBytes: 100, MBPerSecond: 1, For: time.Second}.report([]*producer{p}, []*consumer{c})
	if r.Lost != 2 || r.Duplicated != 1 || r.Reordered != 1 || r.Invalid == "" {
		t.Errorf("report %+v, want 2 lost, 1 twice, 1 out of order, not valid", r)
	}
	if got := r.EndToEnd.P50; got < 99.9 || got > 100.2 {
		t.Errorf("end to end %v ms, want 100: from the time it was due", got)
	}
}

// TestInvalid checks that a driver that was late, or a broker that did not keep up, does not count.
func TestInvalid(t *testing.T) {
	for _, c := range []struct {
		name      string
		late      time.Duration
		measured  int64
		wantValid bool
	}{
		{"good", time.Millisecond, 10_000, true},
		{"late", 11 * time.Millisecond, 10_000, false},
		{"slow", time.Millisecond, 9_000, false},
	} {
		p := &producer{latency: histogram(), delay: histogram(), sent: 10_000, measured: c.measured}
		for range 1000 {
			count(p.latency, 100*time.Millisecond)
			count(p.delay, c.late)
		}
		r := Load{RecordBytes: 100, MBPerSecond: 1, For: time.Second}.report([]*producer{p}, nil)
		if (r.Invalid == "") != c.wantValid {
			t.Errorf("%s: invalid %q", c.name, r.Invalid)
		}
	}
}
