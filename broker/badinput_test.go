package broker

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// Bad input, and the test that holds a whole broker to it over TCP. Each gets Kafka's error, or a closed connection where
// Kafka closes; nothing is stored, others are served meanwhile, memory and goroutines return to their level.
//
//	truncated frames                      TestBadInputTruncatedFrames
//	oversized frames                      TestBadInputOversizedFrames, TestBadInputStalledFrames
//	random frames                         TestBadInputRandomFrames
//	hostile lengths                       TestBadInputHostileLengths
//	slow connections                      TestBadInputSlowConnections, TestBadInputSlowReaders
//	half-closed connections               TestBadInputHalfClosedConnections
//	wrong CRC, magic 0 and 1, empty       TestBadInputRecordsRules
//	batch, wrong record count
//	compressed bombs                      TestBadInputBombs
//	a million equal or empty topics,      TestBadInputArrays (each array of each API), TestHostileRequests
//	partitions, members                   (answers), TestBadInputManyMembers
//	a million tags                        TestBadInputTags
//	negative and wrapped sequences        TestBadInputSequencesRules
//	unknown topics, ids                   TestBadInputUnknownRules
//	unknown versions                      TestBadInputUnknownVersions
//	invalid names                         TestBadInputNamesRules
//	a config of each bad type             TestBadInputConfigsRules
//	10,001 partitions                     TestBadInputPartitionsRules
//	group ids and metadata at limits      TestBadInputGroupLimits
//	1,000 members that join and leave     TestBadInputThousandMembers
//	2,000 idle connections                TestBadInputIdleConnections
//
// Those whose names end in Rules can also be held against Apache Kafka, whose topics they delete:
//
//	TIDEMILL_ORACLE=127.0.0.1:9092 go test ./broker -run 'BadInput.*Rules'

// An attack is a broker to send bad input to, with what must be the same afterwards.
type attack struct {
	*testBroker
	conns      []*rawClient
	witness    *rawClient
	stored     map[string]int64
	goroutines int
	heap       uint64

	stopped sync.WaitGroup
	stop    chan struct{}
}

const (
	// keptTopic has two partitions, with one record in the first. Bad input is about it.
	keptTopic = "kept"
	// witnessTopic is what another client uses meanwhile.
	witnessTopic = "witness"
)

// besiege starts a broker, lets another client use it until the end, and notes what there is.
func besiege(t *testing.T, args ...string) *attack {
	t.Helper()
	b := &testBroker{t: t, kafka: oracle}
	if oracle == "" {
		b = startBroker(t, append([]string{"--kafka", "group.initial.rebalance.delay.ms=0"}, args...)...)
	}
	a := &attack{testBroker: b, stop: make(chan struct{})}
	c := dial(t, b.kafka)
	for _, topic := range a.topics(c) {
		deleteTopic(c, topic)
	}
	c.createTopic(keptTopic, 2)
	c.createTopic(witnessTopic, 1)
	waitFor(t, "the topics", func() bool {
		return endOf(c, keptTopic, 0) == 0 && endOf(c, keptTopic, 1) == 0 && endOf(c, witnessTopic, 0) == 0
	})
	wantCode(t, "produce", c.produce(keptTopic, 0, batchOf("kept")).ErrorCode, protocol.CodeNone)
	commitMetadata(t, b, "kept-group", keptTopic, "") // the coordinator is there
	a.stored = a.ends(c)
	a.witness = dial(t, b.kafka)
	a.watch(a.witness) // warm
	a.goroutines, a.heap = runtime.NumGoroutine(), heapInUse()
	a.stopped.Go(func() {
		for round := 0; ; round++ {
			select {
			case <-a.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if !a.watch(a.witness) {
				return
			}
		}
	})
	t.Cleanup(a.relieve)
	return a
}

// relieve ends what the other client does.
func (a *attack) relieve() {
	select {
	case <-a.stop:
	default:
		close(a.stop)
	}
	a.stopped.Wait()
}

// watch produces a record and reads it back, as one who has nothing to do with the attack.
func (a *attack) watch(c *rawClient) bool {
	resp := kmsg.NewPtrProduceResponse()
	if !a.try(c, produceRequest(9, witnessTopic, 0, batchOf("w")), resp) {
		return false
	}
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		a.t.Errorf("another client's produce: %v", protocol.ErrorCode(p.ErrorCode))
		return false
	}
	for range 5 { // an empty answer means to ask again
		got := kmsg.NewPtrFetchResponse()
		if !a.try(c, fetchRequest(11, witnessTopic, protocol.TopicID{}, 0, p.BaseOffset), got) {
			return false
		}
		q := got.Topics[0].Partitions[0]
		if q.ErrorCode != 0 {
			a.t.Errorf("another client's fetch: %v", protocol.ErrorCode(q.ErrorCode))
			return false
		}
		if len(q.RecordBatches) > 0 {
			return true
		}
	}
	a.t.Error("another client asked in vain for its record")
	return false
}

// try is ask for goroutines other than the test's.
func (a *attack) try(c *rawClient, req kmsg.Request, resp kmsg.Response) bool {
	if _, err := c.Conn.Write(frameOf(req, 1)); err != nil {
		a.t.Errorf("another client: %v", err)
		return false
	}
	_, body, err := c.receive()
	if err != nil {
		a.t.Errorf("another client got no answer to %T: %v", req, err)
		return false
	}
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		a.t.Errorf("another client: %v", err)
		return false
	}
	return true
}

// frameOf is a request as it goes to the socket.
func frameOf(req kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("frame")).AppendRequest(nil, req, correlation)
}

// dial opens a connection that the final check closes.
func (a *attack) dial(t *testing.T) *rawClient {
	t.Helper()
	c := dial(t, a.kafka)
	a.conns = append(a.conns, c)
	return c
}

// topics names all topics but Kafka's own.
func (a *attack) topics(c *rawClient) []string {
	c.t.Helper()
	all := kmsg.NewPtrMetadataRequest()
	all.Version = 1
	var names []string
	for _, t := range ask[*kmsg.MetadataResponse](c, all).Topics {
		if !t.IsInternal {
			names = append(names, *t.Topic)
		}
	}
	return names
}

func deleteTopic(c *rawClient, name string) {
	c.t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = 1, 10_000, []string{name}
	ask[*kmsg.DeleteTopicsResponse](c, req)
}

// endOf returns the end of a partition, -1 if there is none.
func endOf(c *rawClient, topic string, partition int32) int64 {
	c.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 6, -1
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, latestOffset
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	return ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions[0].Offset
}

// ends returns the end of each partition, by their names; the witness's moves.
func (a *attack) ends(c *rawClient) map[string]int64 {
	c.t.Helper()
	out := map[string]int64{}
	for _, topic := range a.topics(c) {
		for p := int32(0); topic != witnessTopic; p++ {
			end := endOf(c, topic, p)
			if end < 0 {
				break
			}
			out[fmt.Sprintf("%s-%d", topic, p)] = end
		}
	}
	return out
}

// checkUnharmed closes the attackers' connections and holds the broker against what it was.
func (a *attack) checkUnharmed(t *testing.T) {
	t.Helper()
	for _, c := range a.conns {
		c.Conn.Close()
	}
	a.conns = nil
	a.relieve()
	c := dial(t, a.kafka)
	a.watch(c) // what is stored now proves that the broker leads: it may have stored nothing for longer than it answers for ends
	if diff := cmp.Diff(a.stored, a.ends(c)); diff != "" {
		t.Errorf("what is stored (-before +after):\n%s", diff)
	}
	c.Conn.Close()
	if oracle != "" {
		return
	}
	waitLong(t, func() string {
		goroutines, heap := runtime.NumGoroutine(), heapInUse()
		if goroutines <= a.goroutines+goroutineSlack && heap <= a.heap+heapSlack {
			return ""
		}
		return fmt.Sprintf("%d goroutines and %d MiB of heap, from %d and %d", goroutines, heap>>20, a.goroutines, a.heap>>20)
	})
}

const (
	// goroutineSlack is for what etcd and others start now and then.
	goroutineSlack = 10
	// heapSlack is for buffers that are kept for the next frames, 31 MiB at most, and for the witness's records.
	heapSlack = 48 << 20
)

// heapInUse is what is reachable, but for a pool's buffers, which go with the second collection.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// waitLong polls until wrong returns nothing.
func waitLong(t *testing.T, wrong func() string) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for what := wrong(); what != ""; what = wrong() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after a minute still %s", what)
		}
	}
}
