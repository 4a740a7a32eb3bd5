package partition

import (
	"sync/atomic"

	"github.com/tidemill/tidemill/protocol"
)

// Traffic is what a log has taken in and given out since it was opened here. It only grows.
type Traffic struct {
	ID protocol.PartitionID
	// LeaderEpoch tells a log from an earlier one of the same partition, whose counters ended with it.
	LeaderEpoch int32
	// Bytes are those of batches, appended and read.
	Bytes int64
	// Requests are appends and reads, also those that were refused or found nothing. A long poll reads twice.
	Requests int64
}

// traffic counts without a lock, as reads learn how many bytes they found when they hold none.
type traffic struct{ bytes, requests atomic.Int64 }

func (t *traffic) count(bytes int) {
	t.bytes.Add(int64(bytes))
	t.requests.Add(1)
}

// Traffic appends what each log has counted to buf, in no order.
func (s *Set) Traffic(buf []Traffic) []Traffic {
	for _, l := range s.all() {
		buf = append(buf, Traffic{
			ID: l.id, LeaderEpoch: l.State().LeaderEpoch, Bytes: l.traffic.bytes.Load(), Requests: l.traffic.requests.Load(),
		})
	}
	return buf
}
