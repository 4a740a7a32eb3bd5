package broker

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// hostileTime is far more than any request below takes, on a busy machine under the race detector too, and less than what is quadratic in
// a million takes.
const hostileTime = 30 * time.Second

// warm makes a first small request: one of any size may only follow it.
func (c *rawClient) warm() *rawClient {
	c.t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 1, []kmsg.MetadataRequestTopic{}
	ask[*kmsg.MetadataResponse](c, req)
	return c
}

// answerSize sends a request and returns the size of its answer, 0 for a closed connection.
func (c *rawClient) answerSize(req kmsg.Request) int {
	c.t.Helper()
	start := time.Now()
	c.send(req)
	_, body, _ := c.receive()
	if d := time.Since(start); d > hostileTime {
		c.t.Errorf("%T v%d took %v", req, req.GetVersion(), d)
	}
	return len(body)
}

func partitions[P any](n int, at func(i int) P) []P {
	out := make([]P, n)
	for i := range out {
		out[i] = at(i)
	}
	return out
}

// TestHostileRequests: what is small to send is small to answer, and answered or refused in linear time (D10).
func TestHostileRequests(t *testing.T) {
	b := startBroker(t)
	long := strings.Repeat("n", 32_000)
	admin := dial(t, b.kafka)
	admin.createTopic("t", 1)
	commitMetadata(t, b, "g", "t", strings.Repeat("m", 4096))
	const many = 40_000
	tests := []struct {
		name string
		req  kmsg.Request
		max  int // bytes of the answer
	}{
		{"a long name with many partitions, fetched in a session", func() kmsg.Request {
			req := fetchRequest(12, long, protocol.TopicID{}, 0, 0)
			req.SessionEpoch = initialEpoch
			req.Topics[0].Partitions = partitions(many, func(i int) kmsg.FetchRequestTopicPartition {
				return kmsg.FetchRequestTopicPartition{Partition: int32(i)}
			})
			return req
		}(), 8 << 20},
		{"a long name with many partitions, produced to", func() kmsg.Request {
			req := produceRequest(11, long, 0, nil)
			req.Topics[0].Partitions = partitions(many, func(i int) kmsg.ProduceRequestTopicPartition {
				return kmsg.ProduceRequestTopicPartition{Partition: int32(i)}
			})
			return req
		}(), 4 << 20},
		{"a long name with many partitions, listed", listOffsets(long, many), 4 << 20},
		{"an offset with metadata asked for again and again", offsetFetch("g", "t", many), 1 << 20},
		{"one broker by many names", describeBrokers(300), 1 << 20},
		{"a list config of many entries", appendConfig("t", many), 8 << 20},
		{"many config names", describeNames("t", many), 1 << 20},
		{"a million equal topics", equalTopics(1_000_000), 1 << 20},
		{"a million equal groups", func() kmsg.Request {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Version, req.Groups = 5, make([]string, 1_000_000)
			return req
		}(), 1 << 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, b.kafka).warm()
			c.t = t
			if n := c.answerSize(tt.req); n > tt.max {
				t.Errorf("the answer has %d bytes, want at most %d", n, tt.max)
			}
		})
	}
	t.Run("random bodies", func(t *testing.T) { sendRandomBodies(t, b, 1, 600) })
	admin.warm() // still served
}

func commitMetadata(t *testing.T, b *testBroker, group, topic, text string) {
	t.Helper()
	c := dial(t, b.kafka)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey = 0, group
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 2, group, -1
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Metadata: &text}}}}
	waitFor(t, "the commit", func() bool {
		ask[*kmsg.FindCoordinatorResponse](c, find)
		return ask[*kmsg.OffsetCommitResponse](c, req).Topics[0].Partitions[0].ErrorCode == 0
	})
}

func listOffsets(topic string, n int) kmsg.Request {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 6
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: partitions(n, func(i int) kmsg.ListOffsetsRequestTopicPartition {
		return kmsg.ListOffsetsRequestTopicPartition{Partition: int32(i)}
	})}}
	return req
}

func offsetFetch(group, topic string, n int) kmsg.Request {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 7, group
	req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: make([]int32, n)}}
	return req
}

func describeBrokers(n int) kmsg.Request {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeDocumentation = 4, true
	req.Resources = partitions(n, func(i int) kmsg.DescribeConfigsRequestResource {
		return kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: strings.Repeat("0", i) + "1"}
	})
	return req
}

func describeNames(topic string, n int) kmsg.Request {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version = 4
	req.Resources = []kmsg.DescribeConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic,
		ConfigNames: partitions(n, func(i int) string { return fmt.Sprint("retention.", i%10) }),
	}}
	return req
}

// appendConfig appends n different entries to a list.
func appendConfig(topic string, n int) kmsg.Request {
	value := strings.Join(partitions(n, func(i int) string { return fmt.Sprintf("%08d", i) }), ",")
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "cleanup.policy", Op: 2, Value: &value}},
	}}
	return req
}

func equalTopics(n int) kmsg.Request {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 7, true
	req.Topics = partitions(n, func(int) kmsg.MetadataRequestTopic { return kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr("!")} })
	return req
}

// sendRandomBodies sends n frames of every key and version in turn, with bodies of random bytes that prefer small counts.
func sendRandomBodies(t *testing.T, b *testBroker, seed uint64, n int) {
	r := rand.New(rand.NewPCG(seed, 0))
	type api struct{ key, version int16 }
	var apis []api
	for _, a := range protocol.APIs() {
		for v := a.Min; v <= a.Max; v++ {
			apis = append(apis, api{int16(a.Key), v})
		}
	}
	for i := range n {
		a := apis[i%len(apis)]
		frame := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(a.key))
		frame = binary.BigEndian.AppendUint16(frame, uint16(a.version))
		frame = append(frame, 0, 0, 0, 1, 0xff, 0xff, 0) // correlation id, no client id, perhaps no tags
		for range r.IntN(120) {
			frame = append(frame, []byte{0, 0, 1, 1, 2, 't', 'g', 0xff, byte(r.Uint32())}[r.IntN(9)])
		}
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		c := dial(t, b.kafka)
		c.sendBytes(frame)
		c.Conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		var first [1]byte
		_, _ = c.Conn.Read(first[:])
		c.Conn.Close()
	}
	checkNoPanic(t, b)
}

// checkNoPanic looks for panics in the log: they close a connection, as bad input may.
func checkNoPanic(t *testing.T, b *testBroker) {
	t.Helper()
	if log := b.logs.String(); strings.Contains(log, "panicked") || strings.Contains(log, "twice") {
		t.Errorf("the broker's log tells of a panic or of two answers")
	}
}

// TestSessionsAreBounded: clients cannot make sessions grow without end, alone or together (D11).
func TestSessionsAreBounded(t *testing.T) {
	const step = 100_000
	var s fetchSessions
	grow := func(from int) *kmsg.FetchRequest {
		req := fetchRequest(12, "t", protocol.TopicID{}, 0, 0)
		req.SessionEpoch = initialEpoch
		req.Topics[0].Partitions = partitions(step, func(i int) kmsg.FetchRequestTopicPartition {
			return kmsg.FetchRequestTopicPartition{Partition: int32(from + i)}
		})
		return req
	}
	first := s.plan(grow(0), 10, time.Now()).session
	req := grow(step)
	req.SessionID, req.SessionEpoch = first.id, 1
	if plan := s.plan(req, 10, time.Now()); len(plan.targets) != 2*step || s.mu.byID[first.id] == nil {
		t.Fatalf("the session has %d partitions, want %d", len(plan.targets), 2*step)
	}
	if other := s.plan(grow(0), 10, time.Now()); other.session != nil || len(other.targets) != step {
		t.Error("there is room for another session")
	}
	req = grow(2 * step)
	req.SessionID, req.SessionEpoch = first.id, 2
	if plan := s.plan(req, 10, time.Now()); len(plan.targets) != 3*step || s.mu.byID[first.id] != nil {
		t.Error("the session goes on to grow")
	}
	if s.mu.partitions != 0 {
		t.Errorf("%d partitions are counted, want none", s.mu.partitions)
	}
}

// TestCollisionsAreLookedUp: names are not compared with each topic that there is (D10).
func TestCollisionsAreLookedUp(t *testing.T) {
	img := &metadata.Image{Topics: map[string]*metadata.Topic{}}
	for i := range 100_000 {
		img.Topics[fmt.Sprintf("a.%05d", i)] = &metadata.Topic{}
	}
	v := newView(img, nil, wal.Life{Broker: 1}, metadata.BrokerInfo{}, nil)
	start := time.Now()
	for i := range 100_000 {
		if v.collision(fmt.Sprintf("b.%05d", i)) || !v.collision(fmt.Sprintf("a_%05d", i)) {
			t.Fatal("wrong collision")
		}
	}
	if d := time.Since(start); d > hostileTime {
		t.Errorf("took %v", d)
	}
}

// TestLargeJoinIsRefused: a join that waits holds its frame's memory. One as large as the budget of requests kept all
// other clients from being heard until it was answered and its answer read (D11).
func TestLargeJoinIsRefused(t *testing.T) {
	b := startBroker(t)
	dial(t, b.kafka).createTopic("t", 1)
	commitMetadata(t, b, "g", "t", "") // the coordinator is there
	other, c := dial(t, b.kafka).warm(), dial(t, b.kafka).warm()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.ProtocolType = 3, "large", "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 1<<30
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 26<<20)}}
	wantCode(t, "join", ask[*kmsg.JoinGroupResponse](c, req).ErrorCode, protocol.CodeInvalidRequest)
	other.warm()
}
