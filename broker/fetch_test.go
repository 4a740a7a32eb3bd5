package broker

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// fetched asks for one partition.
func fetched(c *rawClient, req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	return ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions[0]
}

// batchesOf cuts fetched records into batches, which must be whole.
func batchesOf(t *testing.T, records []byte) []record.Batch {
	t.Helper()
	var out []record.Batch
	for len(records) > 0 {
		batch, rest, err := record.Next(records)
		if err != nil || batch == nil {
			t.Fatalf("after %d batches: %v, %d bytes left", len(out), err, len(records))
		}
		out, records = append(out, batch), rest
	}
	return out
}

// fetchAll reads several partitions of a topic by name, from their starts.
func fetchAll(version int16, topic string, partitions ...int32) *kmsg.FetchRequest {
	req := fetchRequest(version, topic, protocol.TopicID{}, 0, 0)
	req.Topics[0].Partitions = nil
	for _, p := range partitions {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetchRequest(version, topic, protocol.TopicID{}, p, 0).Topics[0].Partitions...)
	}
	return req
}

// Waits of fetches: one that must elapse, and one that must not.
const (
	shortWait = 150 * time.Millisecond
	longWait  = 15 * time.Second
)

func waiting(req *kmsg.FetchRequest, wait time.Duration, minBytes int32) *kmsg.FetchRequest {
	req.MaxWaitMillis, req.MinBytes = int32(wait.Milliseconds()), minBytes
	return req
}

func TestF1Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.createTopic("empty", 1)
	c.produce("t", 0, batchOf("a"))
	at := func(topic string, offset int64) *kmsg.FetchRequest {
		return fetchRequest(12, topic, protocol.TopicID{}, 0, offset)
	}
	noPartitions := at("t", 0)
	noPartitions.Topics = []kmsg.FetchRequestTopic{}
	bad := at("empty", 0)
	bad.Topics = append(bad.Topics, at("nope", 0).Topics...)
	capped := at("t", 0)
	capped.MaxBytes = 10
	for _, tc := range []struct {
		name string
		req  *kmsg.FetchRequest
	}{
		{"F1 no wait", waiting(at("t", 1), 0, 1)},
		{"F1 enough bytes", waiting(at("t", 0), longWait, 1)},
		{"F1 no bytes wanted", waiting(at("t", 1), longWait, 0)},
		{"F1 no partitions", waiting(noPartitions, longWait, 1)},
		{"F1 an unknown topic", waiting(bad, longWait, 1)},
		{"F1 offset out of range", waiting(at("t", 99), longWait, 1)},
		{"F1 min bytes are capped to max bytes", waiting(capped, longWait, 1<<20)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "F1 an unknown topic" {
				skipOracle(t, "Kafka waits when only other partitions can be read")
			}
			start := time.Now()
			ask[*kmsg.FetchResponse](c, tc.req)
			if took := time.Since(start); took > longWait/2 {
				t.Errorf("answered after %v, want at once", took)
			}
		})
	}
	t.Run("F1 too little is answered at the deadline, without an error", func(t *testing.T) {
		start := time.Now()
		p := fetched(c, waiting(at("t", 0), shortWait, 1<<20))
		if took := time.Since(start); took < shortWait {
			t.Errorf("answered after %v", took)
		}
		if p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			t.Errorf("code %d, %d bytes, want what there is", p.ErrorCode, len(p.RecordBatches))
		}
		p = fetched(c, waiting(at("t", 1), shortWait, 1))
		if p.ErrorCode != 0 || len(p.RecordBatches) != 0 || p.HighWatermark != 1 {
			t.Errorf("code %d, %d bytes, high watermark %d", p.ErrorCode, len(p.RecordBatches), p.HighWatermark)
		}
	})
	t.Run("F1 woken by a commit", func(t *testing.T) {
		req := waiting(at("empty", 0), longWait, 1)
		corr, start := c.send(req), time.Now()
		dial(t, b.kafka).produce("empty", 0, batchOf("woken"))
		p := answer[*kmsg.FetchResponse](c, req, corr).Topics[0].Partitions[0]
		if len(p.RecordBatches) == 0 || p.HighWatermark != 1 || time.Since(start) > longWait/2 {
			t.Errorf("%d bytes, high watermark %d, after %v", len(p.RecordBatches), p.HighWatermark, time.Since(start))
		}
	})
	t.Run("F1 woken when commits add up", func(t *testing.T) {
		batch := batchOf(string(make([]byte, 1000)))
		req := waiting(at("empty", 1), longWait, int32(2*len(batch)+1))
		corr, other := c.send(req), dial(t, b.kafka)
		for range 3 {
			other.produce("empty", 0, batch)
		}
		p := answer[*kmsg.FetchResponse](c, req, corr).Topics[0].Partitions[0]
		if got := len(batchesOf(t, p.RecordBatches)); got != 3 {
			t.Errorf("%d batches, want 3", got)
		}
	})
}

func TestF2Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 4)
	size := int32(0)
	for p := range int32(3) {
		for i := range 3 {
			batch := batchOf(fmt.Sprintf("%d-%d-%0900d", p, i, 0))
			size = int32(len(batch))
			c.produce("t", p, batch)
		}
	}
	for _, tc := range []struct {
		name           string
		order          []int32
		max, perPart   int32
		want           []int // batches
		kafkaCutsShort bool
	}{
		{name: "F2 first batch over both limits", order: []int32{0}, max: 1, perPart: 1, want: []int{1}},
		{name: "F2 limits of 0", order: []int32{0}, max: 0, perPart: 0, want: []int{1}},
		{name: "F2 only the first that has data", order: []int32{3, 1, 0}, max: 1, perPart: 1, want: []int{0, 1, 0}},
		{name: "F2 first over its own limit only", order: []int32{2, 0}, max: 1 << 20, perPart: 1, want: []int{1, 0}},
		{name: "F2 the budget shrinks", order: []int32{0, 1, 2}, max: 4 * size, perPart: 3 * size, want: []int{3, 1, 0}},
		{name: "F2 in the order of the request", order: []int32{2, 1, 0}, max: 3 * size, perPart: 2 * size, want: []int{2, 1, 0}},
		{name: "F2 whole batches only", order: []int32{0, 1}, max: 1 << 20, perPart: 2*size + size/2, want: []int{2, 2}, kafkaCutsShort: true},
		{name: "F2 all", order: []int32{0, 1, 2, 3}, max: 1 << 20, perPart: 1 << 20, want: []int{3, 3, 3, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.kafkaCutsShort {
				skipOracle(t, "Kafka sends a part of the third batch")
			}
			req := fetchAll(12, "t", tc.order...)
			req.MaxBytes = tc.max
			for i := range req.Topics[0].Partitions {
				req.Topics[0].Partitions[i].PartitionMaxBytes = tc.perPart
			}
			got := ask[*kmsg.FetchResponse](c, req).Topics[0].Partitions
			for i, p := range got {
				if n := len(batchesOf(t, p.RecordBatches)); p.Partition != tc.order[i] || n != tc.want[i] || p.ErrorCode != 0 {
					t.Errorf("place %d: partition %d has %d batches and code %d, want partition %d with %d", i, p.Partition, n, p.ErrorCode, tc.order[i], tc.want[i])
				}
			}
		})
	}
}

func TestF3F5F6Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	id := c.createTopic("t", 1)
	for range 2 {
		c.produce("t", 0, batchOf("a", "b", "c"))
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
		{"F6 unknown topic", func(r *kmsg.FetchRequest) { r.Topics[0].Topic = "nope" }, protocol.CodeUnknownTopicOrPartition, 0, marks{-1, -1, -1}, "[] []"},
		{"F6 unknown partition", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 9 }, protocol.CodeUnknownTopicOrPartition, 0, marks{-1, -1, -1}, "[] []"},
		{"F6 negative partition", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = -1 }, protocol.CodeUnknownTopicOrPartition, 0, marks{-1, -1, -1}, "[] []"},
		{"F10 epoch to come", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 9 }, protocol.CodeUnknownLeaderEpoch, 0, marks{-1, -1, -1}, "null null"},
		{"3.13 negative max bytes", func(r *kmsg.FetchRequest) { r.MaxBytes = -1 }, protocol.CodeUnknownServerError, 0, marks{-1, -1, -1}, "null null"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			aborted := ""
			for isolation := range int8(2) {
				for _, version := range []int16{4, 5, 11, 12, 16} {
					req := fetchRequest(version, "t", protocol.TopicID{}, 0, 0)
					tc.change(req)
					req.IsolationLevel = isolation
					if version < 9 && req.Topics[0].Partitions[0].CurrentLeaderEpoch >= 0 {
						continue
					}
					if version >= 13 {
						if req.Topics[0].Topic != "t" {
							continue
						}
						req.Topics[0].TopicID = id
					}
					p := fetched(c, req)
					wantCode(t, fmt.Sprintf("v%d", version), p.ErrorCode, tc.want)
					want := tc.marks
					if version < 5 {
						want.start = -1
					}
					if got := (marks{p.HighWatermark, p.LastStableOffset, p.LogStartOffset}); got != want {
						t.Errorf("F5 v%d: marks %+v, want %+v", version, got, want)
					}
					if n := len(batchesOf(t, p.RecordBatches)); n != tc.batches {
						t.Errorf("v%d: %d batches, want %d", version, n, tc.batches)
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
		req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
		req.IsolationLevel = 2
		wantCode(t, "fetch", fetched(c, req).ErrorCode, protocol.CodeUnknownServerError)
	})
	t.Run("3.13 a partition twice is answered once", func(t *testing.T) {
		resp := ask[*kmsg.FetchResponse](c, fetchAll(12, "t", 0, 0))
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			t.Errorf("%d topics", len(resp.Topics))
		}
	})
}

func at(offset int64) func(*kmsg.FetchRequest) {
	return func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = offset }
}

// TestF4Rules: whatever a read fails with, a Java consumer survives the code.
func TestF4Rules(t *testing.T) {
	survived := map[protocol.ErrorCode]bool{}
	for _, code := range []protocol.ErrorCode{0, 1, 3, 6, 9, 56, 74, 75, 78, 29, 2, 100, 103, -1} {
		survived[code] = true
	}
	for _, e := range errorCodes {
		if code := new(fetching).codeOf(context.Background(), fmt.Errorf("read: %w", e.err)); !survived[code] || code == protocol.CodeNone {
			t.Errorf("%v is answered %v", e.err, code)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if code := new(fetching).codeOf(ended, context.Canceled); code != protocol.CodeNone {
		t.Errorf("a request that was cut short is answered %v", code)
	}
}

func TestF11Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	c.createTopic("t", 1)
	c.produce("t", 0, batchOf("a", "b"))
	for last, want := range map[int32]protocol.ErrorCode{-1: 0, 0: 0, 1: protocol.CodeOffsetOutOfRange} {
		req := fetchRequest(12, "t", protocol.TopicID{}, 0, 1)
		req.Topics[0].Partitions[0].LastFetchedEpoch = last
		p := fetched(c, req)
		wantCode(t, fmt.Sprintf("last fetched epoch %d", last), p.ErrorCode, want)
		if p.DivergingEpoch.Epoch != -1 {
			t.Errorf("last fetched epoch %d diverges at %d", last, p.DivergingEpoch.Epoch)
		}
	}
}

func TestF13Rules(t *testing.T) {
	b := serve(t)
	c := dial(t, b.kafka)
	id := c.createTopic("t", 1)
	c.produce("t", 0, batchOf("a"))
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
				resp := ask[*kmsg.FetchResponse](c, fetchRequest(version, "", tc.id, 0, 0))
				wantCode(t, fmt.Sprintf("v%d", version), resp.Topics[0].Partitions[0].ErrorCode, tc.want)
				if resp.Topics[0].TopicID != tc.id {
					t.Errorf("v%d: answered for id %x", version, resp.Topics[0].TopicID)
				}
			}
		})
	}
	t.Run("F13 an unknown id beside a known one", func(t *testing.T) {
		req := fetchRequest(16, "", unknown, 0, 0)
		req.Topics = append(req.Topics, fetchRequest(16, "", id, 0, 0).Topics...)
		for _, topic := range ask[*kmsg.FetchResponse](c, req).Topics {
			want := protocol.CodeUnknownTopicID
			if topic.TopicID == id {
				want = protocol.CodeNone
			}
			wantCode(t, "fetch", topic.Partitions[0].ErrorCode, want)
		}
	})
	t.Run("F13 topic created again", func(t *testing.T) {
		ask[*kmsg.DeleteTopicsResponse](c, deleteRequest(6, "t"))
		fresh := c.createTopic("t", 1)
		c.produce("t", 0, batchOf("new"))
		wantCode(t, "old id", fetched(c, fetchRequest(16, "", id, 0, 0)).ErrorCode, protocol.CodeUnknownTopicID)
		p := fetched(c, fetchRequest(16, "", fresh, 0, 0))
		if p.ErrorCode != 0 || !bytes.Contains(p.RecordBatches, []byte("new")) || p.HighWatermark != 1 {
			t.Errorf("new id: code %d, high watermark %d", p.ErrorCode, p.HighWatermark)
		}
	})
}

// TestF14Rules: what was acknowledged is seen at once, on every connection, and the high watermark never falls.
func TestF14Rules(t *testing.T) {
	b := serve(t)
	writer, reader := dial(t, b.kafka), dial(t, b.kafka)
	writer.createTopic("t", 1)
	for i := range int64(20) {
		writer.produce("t", 0, batchOf("a"))
		if p := fetched(reader, fetchRequest(12, "t", protocol.TopicID{}, 0, i)); p.ErrorCode != 0 || p.HighWatermark != i+1 || len(p.RecordBatches) == 0 {
			t.Fatalf("after %d records: code %d, high watermark %d, %d bytes", i+1, p.ErrorCode, p.HighWatermark, len(p.RecordBatches))
		}
		if got := listed(reader, listRequest("t", 0, latestOffset)).Offset; got != i+1 {
			t.Fatalf("after %d records the latest offset is %d", i+1, got)
		}
	}
}
