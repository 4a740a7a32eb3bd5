package conformance

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// fetchAll reads several partitions of a topic by name, from their starts.
func fetchAll(version int16, topic string, partitions ...int32) *kmsg.FetchRequest {
	req := FetchRequest(version, topic, protocol.TopicID{}, 0, 0)
	req.Topics[0].Partitions = nil
	for _, p := range partitions {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, FetchRequest(version, topic, protocol.TopicID{}, p, 0).Topics[0].Partitions...)
	}
	return req
}

// Waits of fetches: one that must elapse, and one that must not.
const (
	shortWait = 150 * time.Millisecond
	longWait  = 50 * time.Second
)

func waiting(req *kmsg.FetchRequest, wait time.Duration, minBytes int32) *kmsg.FetchRequest {
	req.MaxWaitMillis, req.MinBytes = int32(wait.Milliseconds()), minBytes
	return req
}

func TestF1(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	c.CreateTopic(n("empty"), 1)
	c.Produce(n("t"), 0, BatchOf("a"))
	at := func(topic string, offset int64) *kmsg.FetchRequest {
		return FetchRequest(12, topic, protocol.TopicID{}, 0, offset)
	}
	noPartitions := at(n("t"), 0)
	noPartitions.Topics = []kmsg.FetchRequestTopic{}
	capped := at(n("t"), 0)
	capped.MaxBytes = 10
	for _, tc := range []struct {
		name string
		req  *kmsg.FetchRequest
	}{
		{"F1 no wait", waiting(at(n("t"), 1), 0, 1)},
		{"F1 enough bytes", waiting(at(n("t"), 0), longWait, 1)},
		{"F1 no bytes wanted", waiting(at(n("t"), 1), longWait, 0)},
		{"F1 no partitions", waiting(noPartitions, longWait, 1)},
		{"F1 offset out of range", waiting(at(n("t"), 99), longWait, 1)},
		{"F1 min bytes are capped to max bytes", waiting(capped, longWait, 1<<20)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			Ask[*kmsg.FetchResponse](c, tc.req)
			if took := time.Since(start); took > longWait/2 {
				t.Errorf("answered after %v, want at once", took)
			}
		})
	}
	t.Run("F1 too little is answered at the deadline, without an error", func(t *testing.T) {
		start := time.Now()
		p := Fetched(c, waiting(at(n("t"), 0), shortWait, 1<<20))
		if took := time.Since(start); took < shortWait {
			t.Errorf("answered after %v", took)
		}
		if p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			t.Errorf("code %d, %d bytes, want what there is", p.ErrorCode, len(p.RecordBatches))
		}
		p = Fetched(c, waiting(at(n("t"), 1), shortWait, 1))
		if p.ErrorCode != 0 || len(p.RecordBatches) != 0 || p.HighWatermark != 1 {
			t.Errorf("code %d, %d bytes, high watermark %d", p.ErrorCode, len(p.RecordBatches), p.HighWatermark)
		}
	})
	t.Run("F1 woken by a commit", func(t *testing.T) {
		req := waiting(at(n("empty"), 0), longWait, 1)
		corr, start := c.Send(req), time.Now()
		Dial(t, target.addr).Produce(n("empty"), 0, BatchOf("woken"))
		p := Answer[*kmsg.FetchResponse](c, req, corr).Topics[0].Partitions[0]
		if len(p.RecordBatches) == 0 || p.HighWatermark != 1 || time.Since(start) > longWait/2 {
			t.Errorf("%d bytes, high watermark %d, after %v", len(p.RecordBatches), p.HighWatermark, time.Since(start))
		}
	})
	t.Run("F1 woken when commits add up", func(t *testing.T) {
		batch := BatchOf(string(make([]byte, 1000)))
		req := waiting(at(n("empty"), 1), longWait, int32(2*len(batch)+1))
		corr, other := c.Send(req), Dial(t, target.addr)
		for range 3 {
			other.Produce(n("empty"), 0, batch)
		}
		p := Answer[*kmsg.FetchResponse](c, req, corr).Topics[0].Partitions[0]
		if got := len(BatchesOf(t, p.RecordBatches)); got != 3 {
			t.Errorf("%d batches, want 3", got)
		}
	})
}

func TestF2(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 4)
	size := int32(0)
	for p := range int32(3) {
		for i := range 3 {
			batch := BatchOf(fmt.Sprintf("%d-%d-%0900d", p, i, 0))
			size = int32(len(batch))
			c.Produce(n("t"), p, batch)
		}
	}
	for _, tc := range []struct {
		name         string
		order        []int32
		max, perPart int32
		want         []int // whole batches: Kafka may send a part of one more
	}{
		{name: "F2 first batch over both limits", order: []int32{0}, max: 1, perPart: 1, want: []int{1}},
		{name: "F2 limits of 0", order: []int32{0}, max: 0, perPart: 0, want: []int{1}},
		{name: "F2 only the first that has data", order: []int32{3, 1, 0}, max: 1, perPart: 1, want: []int{0, 1, 0}},
		{name: "F2 first over its own limit only", order: []int32{2, 0}, max: 1 << 20, perPart: 1, want: []int{1, 0}},
		{name: "F2 the budget shrinks", order: []int32{0, 1, 2}, max: 4 * size, perPart: 3 * size, want: []int{3, 1, 0}},
		{name: "F2 in the order of the request", order: []int32{2, 1, 0}, max: 3 * size, perPart: 2 * size, want: []int{2, 1, 0}},
		{name: "F2 whole batches only", order: []int32{0, 1}, max: 1 << 20, perPart: 2*size + size/2, want: []int{2, 2}},
		{name: "F2 all", order: []int32{0, 1, 2, 3}, max: 1 << 20, perPart: 1 << 20, want: []int{3, 3, 3, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := fetchAll(12, n("t"), tc.order...)
			req.MaxBytes = tc.max
			for i := range req.Topics[0].Partitions {
				req.Topics[0].Partitions[i].PartitionMaxBytes = tc.perPart
			}
			got := Ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions
			for i, p := range got {
				if whole, _ := wholeBatches(t, p.RecordBatches); p.Partition != tc.order[i] || len(whole) != tc.want[i] || p.ErrorCode != 0 {
					t.Errorf("place %d: partition %d has %d batches and code %d, want partition %d with %d", i, p.Partition, len(whole), p.ErrorCode, tc.order[i], tc.want[i])
				}
			}
		})
	}
}

func TestF3F5F6(t *testing.T) {
	c, n := begin(t)
	id := c.CreateTopic(n("t"), 1)
	for range 2 {
		c.Produce(n("t"), 0, BatchOf("a", "b", "c"))
	}
	type marks struct{ high, stable, start int64 }
	for _, tc := range []struct {
		name    string
		change  func(*kmsg.FetchRequest)
		want    protocol.ErrorCode
		batches int
		marks   marks
		aborted string // of read uncommitted, read committed
	}{
		{"F3 start", at(0), 0, 2, marks{6, 6, 0}, "null []"},
		{"F3 within a batch", at(4), 0, 1, marks{6, 6, 0}, "null []"},
		{"F3 the end", at(6), 0, 0, marks{6, 6, 0}, "null []"},
		{"F3 past the end", at(7), protocol.CodeOffsetOutOfRange, 0, marks{-1, -1, -1}, "null null"},
		{"F3 negative", at(-5), protocol.CodeOffsetOutOfRange, 0, marks{-1, -1, -1}, "null null"},
		{"F6 unknown topic", func(r *kmsg.FetchRequest) { r.Topics[0].Topic = n("nope") }, protocol.CodeUnknownTopicOrPartition, 0, marks{-1, -1, -1}, "[] []"},
		{"F6 unknown partition", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 9 }, protocol.CodeUnknownTopicOrPartition, 0, marks{-1, -1, -1}, "[] []"},
		{"F6 negative partition", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = -1 }, protocol.CodeUnknownTopicOrPartition, 0, marks{-1, -1, -1}, "[] []"},
		{"F10 epoch to come", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 9 }, protocol.CodeUnknownLeaderEpoch, 0, marks{-1, -1, -1}, "null null"},
		{"3.13 negative max bytes", func(r *kmsg.FetchRequest) { r.MaxBytes = -1 }, protocol.CodeUnknownServerError, 0, marks{-1, -1, -1}, "null null"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			aborted := ""
			for isolation := range int8(2) {
				for _, version := range []int16{4, 5, 11, 12, 16} {
					req := FetchRequest(version, n("t"), protocol.TopicID{}, 0, 0)
					tc.change(req)
					req.IsolationLevel = isolation
					if version < 9 && req.Topics[0].Partitions[0].CurrentLeaderEpoch >= 0 {
						continue
					}
					if version >= 13 {
						if req.Topics[0].Topic != n("t") {
							continue
						}
						req.Topics[0].TopicID = id
					}
					p := Fetched(c, req)
					WantCode(t, fmt.Sprintf("v%d", version), p.ErrorCode, tc.want)
					want := tc.marks
					if version < 5 {
						want.start = -1
					}
					if got := (marks{p.HighWatermark, p.LastStableOffset, p.LogStartOffset}); got != want {
						t.Errorf("F5 v%d: marks %+v, want %+v", version, got, want)
					}
					if got := len(BatchesOf(t, p.RecordBatches)); got != tc.batches {
						t.Errorf("v%d: %d batches, want %d", version, got, tc.batches)
					}
					if p.RecordBatches == nil {
						t.Errorf("v%d: the records are null", version)
					}
					if version == 12 {
						aborted += map[bool]string{true: "null ", false: "[] "}[p.AbortedTransactions == nil]
					}
				}
			}
			if aborted != tc.aborted+" " {
				t.Errorf("F6: aborted transactions %s, want %s", aborted, tc.aborted)
			}
		})
	}
	t.Run("3.13 isolation level 2", func(t *testing.T) {
		req := FetchRequest(12, n("t"), protocol.TopicID{}, 0, 0)
		req.IsolationLevel = 2
		WantCode(t, "fetch", Fetched(c, req).ErrorCode, protocol.CodeUnknownServerError)
	})
	t.Run("3.13 a partition twice is answered once", func(t *testing.T) {
		resp := Ask[*kmsg.FetchResponse](c, fetchAll(12, n("t"), 0, 0))
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			t.Errorf("%d topics", len(resp.Topics))
		}
	})
}

func at(offset int64) func(*kmsg.FetchRequest) {
	return func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = offset }
}

func TestF11(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	c.Produce(n("t"), 0, BatchOf("a", "b"))
	for last, want := range map[int32]protocol.ErrorCode{-1: 0, 0: 0, 1: protocol.CodeOffsetOutOfRange} {
		req := FetchRequest(12, n("t"), protocol.TopicID{}, 0, 1)
		req.Topics[0].Partitions[0].LastFetchedEpoch = last
		p := Fetched(c, req)
		WantCode(t, fmt.Sprintf("last fetched epoch %d", last), p.ErrorCode, want)
		if p.DivergingEpoch.Epoch != -1 {
			t.Errorf("last fetched epoch %d diverges at %d", last, p.DivergingEpoch.Epoch)
		}
	}
}

func TestF13(t *testing.T) {
	c, n := begin(t)
	id := c.CreateTopic(n("t"), 1)
	c.Produce(n("t"), 0, BatchOf("a"))
	unknown := protocol.TopicID{1, 2, 3}
	for _, tc := range []struct {
		name string
		id   protocol.TopicID
		want protocol.ErrorCode
	}{
		{"F13 known id", id, protocol.CodeNone},
		{"F13 unknown id", unknown, protocol.CodeUnknownTopicID},
		{"F13 zero id", protocol.TopicID{}, protocol.CodeUnknownTopicID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for version := int16(13); version <= 16; version++ {
				resp := Ask[*kmsg.FetchResponse](c, FetchRequest(version, "", tc.id, 0, 0))
				WantCode(t, fmt.Sprintf("v%d", version), resp.Topics[0].Partitions[0].ErrorCode, tc.want)
				if resp.Topics[0].TopicID != tc.id {
					t.Errorf("v%d: answered for id %x", version, resp.Topics[0].TopicID)
				}
			}
		})
	}
	t.Run("F13 an unknown id beside a known one", func(t *testing.T) {
		req := FetchRequest(16, "", unknown, 0, 0)
		req.Topics = append(req.Topics, FetchRequest(16, "", id, 0, 0).Topics...)
		for _, topic := range Ask[*kmsg.FetchResponse](c, req).Topics {
			want := protocol.CodeUnknownTopicID
			if topic.TopicID == id {
				want = protocol.CodeNone
			}
			WantCode(t, "fetch", topic.Partitions[0].ErrorCode, want)
		}
	})
	t.Run("F13 topic created again", func(t *testing.T) {
		Ask[*kmsg.DeleteTopicsResponse](c, DeleteRequest(6, n("t")))
		fresh := c.CreateTopic(n("t"), 1)
		c.Produce(n("t"), 0, BatchOf("new"))
		WaitFor(t, "the old id to be unknown", func() bool {
			return Fetched(c, FetchRequest(16, "", id, 0, 0)).ErrorCode == int16(protocol.CodeUnknownTopicID)
		})
		p := Fetched(c, FetchRequest(16, "", fresh, 0, 0))
		if p.ErrorCode != 0 || !bytes.Contains(p.RecordBatches, []byte("new")) || p.HighWatermark != 1 {
			t.Errorf("new id: code %d, high watermark %d", p.ErrorCode, p.HighWatermark)
		}
	})
}

// TestF14: what was acknowledged is seen at once, on every connection, and the high watermark never falls.
func TestF14(t *testing.T) {
	writer, n := begin(t)
	reader := Dial(t, target.addr)
	writer.CreateTopic(n("t"), 1)
	for i := range int64(20) {
		writer.Produce(n("t"), 0, BatchOf("a"))
		if p := Fetched(reader, FetchRequest(12, n("t"), protocol.TopicID{}, 0, i)); p.ErrorCode != 0 || p.HighWatermark != i+1 || len(p.RecordBatches) == 0 {
			t.Fatalf("after %d records: code %d, high watermark %d, %d bytes", i+1, p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
		if got := Listed(reader, ListRequest(n("t"), 0, LatestOffset)).Offset; got != i+1 {
			t.Fatalf("after %d records the latest offset is %d", i+1, got)
		}
	}
}
