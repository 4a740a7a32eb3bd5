package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
	"github.com/tidemill/tidemill/internal/ledger"
)

const (
	mirrorHeap = 512
	// mirrorLimit is for anything that MirrorMaker does on a busy machine, its start included.
	mirrorLimit = 3 * time.Minute
	// Each partition gets a round of records at a time.
	mirrorRound = 1000
	// The names of the clusters: a topic of primary is called primary.topic on backup.
	primary, backup = "primary", "backup"
	orders, prices  = "orders", "prices"
	returns         = "returns"
	// stopsAtEnd consumes the first round of orders and stops at its end, stopsMidway is halfway through the second.
	stopsAtEnd, stopsMidway = "stops-at-end", "stops-midway"
)

// TestMirrorMaker moves a cluster from Apache Kafka with MirrorMaker, as its documentation says and with its defaults except
// for the intervals.
func TestMirrorMaker(t *testing.T) {
	m := newMirror(t)
	m.create(orders, 3, map[string]string{"retention.ms": "123456789", "max.message.bytes": "2097152"})
	m.create(prices, 2, map[string]string{"cleanup.policy": "compact"})
	m.create("empty", 1, nil)
	m.produce(orders, 0, 1, 2)
	m.produce(prices, 0, 1)
	m.stopAtEnd()

	m.start()
	m.checkTopics()
	m.checkRecords(orders, prices)
	m.checkTranslated()
	m.checkHeartbeats()

	// What changes at the source changes at the target.
	m.alter()
	m.checkTopics()
	m.produce(orders, 0, 1, 2, 3, 4)
	m.checkRecords(orders)
	m.stopMidway()
	m.checkTranslated()

	// MirrorMaker finds its place again, so nothing comes twice.
	m.process.Terminate(workerLimit)
	m.produce(orders, 0, 1, 2, 3, 4)
	m.start()
	m.checkRecords(orders, prices)
	m.checkRemoteOffsets()
	m.checkContinues()

	m.killUnderMirror()
}

// A mirror is MirrorMaker between two clusters.
type mirror struct {
	t                *testing.T
	ctx              context.Context
	source, target   *harness.Broker
	sources, targets *kadm.Client
	argv             []string
	process          *harness.Process
	// topics are those of the source, with the configs that differ from the defaults.
	topics map[string]map[string]string
	// groups are consumer groups of orders: where each has stopped in partitions 0 to 2.
	groups map[string]int64
	// sent are the records of each partition of the source.
	sent map[ledger.Place][]*kgo.Record
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	settings := harness.Settings{"group.initial.rebalance.delay.ms": "0"}
	m := &mirror{
		t: t, ctx: ctx, source: harness.NewKafka(t, settings), target: harness.NewBroker(t, settings),
		topics: map[string]map[string]string{}, sent: map[ledger.Place][]*kgo.Record{},
		groups: map[string]int64{},
	}
	m.sources, m.targets = kadm.NewClient(m.source.Client()), kadm.NewClient(m.target.Client())
	props := []string{
		"clusters=" + primary + "," + backup,
		primary + ".bootstrap.servers=" + m.source.Addr, backup + ".bootstrap.servers=" + m.target.Addr,
		primary + "->" + backup + ".enabled=true", "sync.group.offsets.enabled=true", "offset.flush.interval.ms=1000",
	}
	for _, what := range []string{"refresh.topics", "refresh.groups", "sync.topic.configs", "emit.checkpoints", "emit.heartbeats",
		"sync.group.offsets"} {
		props = append(props, what+".interval.seconds=1")
	}
	oneReplica := []string{primary}
	if harness.OnKafka() { // one Kafka broker refuses the defaults of 2 and 3 replicas; ours accepts them (2.0)
		oneReplica = append(oneReplica, backup)
		props = append(props, "replication.factor=1", "checkpoints.topic.replication.factor=1")
	}
	for _, cluster := range oneReplica {
		for _, topic := range []string{"config.storage", "offset.storage", "status.storage", "offset-syncs.topic"} {
			props = append(props, cluster+"."+topic+".replication.factor=1")
		}
	}
	file := harness.WriteFile(t, "mm2.properties", strings.Join(props, "\n")+"\n")
	m.argv = harness.MirrorJava(t, mirrorHeap, "org.apache.kafka.connect.mirror.MirrorMaker", file)
	return m
}

func (m *mirror) start() { m.process = harness.Start(m.t, "mirror-maker", m.argv...) }

func (m *mirror) create(topic string, partitions int32, configs map[string]string) {
	m.t.Helper()
	values := map[string]*string{}
	for name, value := range configs {
		values[name] = &value
	}
	if _, err := m.sources.CreateTopic(m.ctx, partitions, 1, values, topic); err != nil {
		m.t.Fatal(err)
	}
	m.topics[topic] = configs
}

// produce sends a round of records to partitions of a source's topic: with and without keys, values and headers.
func (m *mirror) produce(topic string, partitions ...int32) {
	m.t.Helper()
	client := m.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var round []*kgo.Record
	begun := time.Now().Truncate(time.Millisecond)
	for i := range mirrorRound {
		for _, partition := range partitions {
			at := ledger.Place{Topic: topic, Partition: partition}
			n := len(m.sent[at])
			r := &kgo.Record{
				Topic: topic, Partition: partition, Timestamp: begun.Add(time.Duration(i) * time.Millisecond),
				Key: []byte(strconv.Itoa(n)), Value: fmt.Appendf(nil, "%s/%d: %d", topic, partition, n),
			}
			switch i % 4 {
			case 0:
				r.Headers = []kgo.RecordHeader{{Key: "n", Value: []byte{0, byte(i)}}, {Key: "n", Value: []byte{}}, {Key: "none"}}
			case 1:
				r.Value = nil
			case 2:
				if topic != prices { // a compacted topic takes no records without a key
					r.Key = nil
				}
			}
			m.sent[at] = append(m.sent[at], r)
			round = append(round, r)
		}
	}
	if err := client.ProduceSync(m.ctx, round...).FirstErr(); err != nil {
		m.t.Fatal(err)
	}
}

// ends is how many records each partition of a source's topic has.
func (m *mirror) ends(topic string) map[int32]int64 {
	ends := map[int32]int64{}
	for at, log := range m.sent {
		if at.Topic == topic {
			ends[at.Partition] = int64(len(log))
		}
	}
	return ends
}

// checkTopics waits until each of the source's topics is at the target with its partitions and configs.
func (m *mirror) checkTopics() {
	m.t.Helper()
	harness.Eventually(m.t, mirrorLimit, "topics and their configs are mirrored", func() error {
		m.checkRuns()
		for topic, configs := range m.topics {
			want, err := m.sources.ListTopics(m.ctx, topic)
			if err != nil {
				return err
			}
			got, err := m.targets.ListTopics(m.ctx, primary+"."+topic)
			if err != nil {
				return err
			}
			if got, want := len(got[primary+"."+topic].Partitions), len(want[topic].Partitions); got != want {
				return fmt.Errorf("%s has %d partitions, want %d", topic, got, want)
			}
			described, err := m.targets.DescribeTopicConfigs(m.ctx, primary+"."+topic)
			if err != nil {
				return err
			}
			found := map[string]string{}
			for _, c := range described[0].Configs {
				if _, ok := configs[c.Key]; ok {
					found[c.Key] = c.MaybeValue()
				}
			}
			if diff := cmp.Diff(configs, found); len(configs) > 0 && diff != "" {
				return fmt.Errorf("configs of %s: %s", topic, diff)
			}
		}
		return nil
	})
}

// checkRuns fails the test when MirrorMaker has ended.
func (m *mirror) checkRuns() {
	m.t.Helper()
	select {
	case <-m.process.Exited():
		m.t.Fatalf("MirrorMaker exited with status %d", m.process.ExitCode())
	default:
	}
}

// checkRecords waits until the target has as many records of the topics as the source, and compares them.
func (m *mirror) checkRecords(topics ...string) {
	m.t.Helper()
	for _, topic := range topics {
		harness.Eventually(m.t, mirrorLimit, "all records of "+topic+" are mirrored", func() error {
			for partition, end := range m.ends(topic) {
				if err := m.reached(topic, partition, end); err != nil {
					return err
				}
			}
			return nil
		})
		m.compare(topic)
	}
}

// reached returns nil once a partition has end records at the target.
func (m *mirror) reached(topic string, partition int32, end int64) error {
	m.t.Helper()
	m.checkRuns()
	ends, err := m.targets.ListEndOffsets(m.ctx, primary+"."+topic)
	if err != nil {
		return err
	}
	got, ok := ends.Lookup(primary+"."+topic, partition)
	if !ok || got.Offset < end {
		return fmt.Errorf("%s/%d ends at %d, want %d", topic, partition, got.Offset, end)
	}
	return got.Err
}

// A mirrored record is what must be equal on both sides.
type mirrored struct {
	Key, Value []byte
	Headers    []kgo.RecordHeader
	Timestamp  time.Time
}

func mirroredOf(r *kgo.Record) mirrored {
	return mirrored{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp.UTC()}
}

func (m *mirror) compare(topic string) {
	m.t.Helper()
	report := limited(m.t)
	ends := m.ends(topic)
	got := m.readTo(ends, kgo.ConsumeTopics(primary+"."+topic))
	for partition := range ends {
		sent, found := m.sent[ledger.Place{Topic: topic, Partition: partition}], got[partition]
		if len(found) != len(sent) {
			report("%s/%d: %d records, want %d", topic, partition, len(found), len(sent))
		}
		for i := range min(len(sent), len(found)) {
			if diff := cmp.Diff(mirroredOf(sent[i]), mirroredOf(found[i])); diff != "" {
				report("%s/%d: record %d: %s", topic, partition, i, diff)
			}
		}
	}
}

// killUnderMirror kills the target while records come. MirrorMaker's producers are not idempotent: what was in flight may
// come twice, but for the first time it comes in order.
func (m *mirror) killUnderMirror() {
	m.t.Helper()
	m.create(returns, 3, nil)
	m.produce(returns, 0, 1, 2)
	m.checkRecords(returns)
	m.produce(returns, 0, 1, 2)
	harness.Eventually(m.t, mirrorLimit, "records are under way", func() error { return m.reached(returns, 0, mirrorRound+1) })
	m.produce(returns, 0, 1, 2)
	m.t.Logf("at the kill: %v", m.reached(returns, 0, 3*mirrorRound))
	m.target.Kill9()
	m.produce(returns, 0, 1, 2)
	m.target.Start()
	missing := func(got map[int32][]*kgo.Record) error {
		for partition, end := range m.ends(returns) {
			if n := m.inOrder(returns, partition, got[partition]); n < int(end) {
				return fmt.Errorf("partition %d has %d of %d records in order", partition, n, end)
			}
		}
		return nil
	}
	again := 0
	for partition, log := range m.read(missing, kgo.ConsumeTopics(primary+"."+returns)) {
		again += len(log) - int(m.ends(returns)[partition])
	}
	m.t.Logf("%d records came again after the kill", again)
}

// inOrder is how many of a partition's records have come without a gap before them. None may be made up.
func (m *mirror) inOrder(topic string, partition int32, found []*kgo.Record) (next int) {
	m.t.Helper()
	sent := m.sent[ledger.Place{Topic: topic, Partition: partition}]
	for _, r := range found {
		number := string(r.Key)
		if r.Key == nil {
			_, number, _ = strings.Cut(string(r.Value), ": ")
		}
		n, err := strconv.Atoi(number)
		if err != nil || n >= len(sent) {
			m.t.Fatalf("%s/%d@%d: %q = %q was not sent", topic, partition, r.Offset, r.Key, r.Value)
		}
		if diff := cmp.Diff(mirroredOf(sent[n]), mirroredOf(r)); diff != "" {
			m.t.Fatalf("%s/%d@%d: %s", topic, partition, r.Offset, diff)
		}
		if n > next {
			return next
		}
		next = max(next, n+1)
	}
	return next
}

// readTo reads the target until every partition has come to its end.
func (m *mirror) readTo(ends map[int32]int64, opts ...kgo.Opt) map[int32][]*kgo.Record {
	m.t.Helper()
	return m.read(func(got map[int32][]*kgo.Record) error {
		for partition, end := range ends {
			if log := got[partition]; len(log) == 0 || log[len(log)-1].Offset < end-1 {
				return fmt.Errorf("partition %d: %d records, the end is at %d", partition, len(log), end)
			}
		}
		return nil
	}, opts...)
}

// read reads the target until nothing is missing.
func (m *mirror) read(missing func(got map[int32][]*kgo.Record) error, opts ...kgo.Opt) map[int32][]*kgo.Record {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, mirrorLimit)
	defer cancel()
	opts = append(opts, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(time.Second))
	client := m.target.Client(opts...)
	defer client.Close()
	got := map[int32][]*kgo.Record{}
	for err := missing(got); err != nil; err = missing(got) {
		m.checkRuns()
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			m.t.Fatalf("read the target: not within %v: %v", mirrorLimit, err)
		}
		fetches.EachError(func(topic string, partition int32, err error) { m.t.Logf("%s/%d: %v", topic, partition, err) })
		fetches.EachRecord(func(r *kgo.Record) { got[r.Partition] = append(got[r.Partition], r) })
	}
	return got
}

// stopAtEnd runs a group through the first round of orders.
func (m *mirror) stopAtEnd() {
	m.t.Helper()
	client := m.source.Client(kgo.ConsumerGroup(stopsAtEnd), kgo.ConsumeTopics(orders), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	for left := 3 * mirrorRound; left > 0; {
		fetches := client.PollFetches(m.ctx)
		if err := fetches.Err(); err != nil {
			m.t.Fatal(err)
		}
		left -= fetches.NumRecords()
	}
	if err := client.CommitUncommittedOffsets(m.ctx); err != nil {
		m.t.Fatal(err)
	}
	m.groups[stopsAtEnd] = mirrorRound
}

// stopMidway commits offsets in the middle of the second round of orders.
func (m *mirror) stopMidway() {
	m.t.Helper()
	m.groups[stopsMidway] = mirrorRound * 3 / 2
	offsets := kadm.Offsets{}
	for partition := range int32(3) {
		offsets.AddOffset(orders, partition, m.groups[stopsMidway], -1)
	}
	if err := m.sources.CommitAllOffsets(m.ctx, stopsMidway, offsets); err != nil {
		m.t.Fatal(err)
	}
}

// checkTranslated waits until the groups are at the target. MirrorMaker knows the latest record's place best and fewer and
// fewer before it: who stops at the end goes on exactly there, who stops before it may see some records again and misses none.
func (m *mirror) checkTranslated() {
	m.t.Helper()
	harness.Eventually(m.t, mirrorLimit, "the groups' offsets are translated", func() error {
		m.checkRuns()
		for group, want := range m.groups {
			offsets, err := m.targets.FetchOffsets(m.ctx, group)
			if err != nil {
				return err
			}
			for partition := range int32(3) {
				got, ok := offsets.Lookup(primary+"."+orders, partition)
				if !ok || got.Err != nil {
					return fmt.Errorf("%s has no offset of partition %d: %v", group, partition, got.Err)
				}
				if got.At > want || group == stopsAtEnd && got.At < want {
					return fmt.Errorf("%s is at %d of partition %d, want %d", group, got.At, partition, want)
				}
			}
		}
		return nil
	})
}

// checkHeartbeats waits for heartbeats of both kinds: those made for the target, and those that came over the mirror.
func (m *mirror) checkHeartbeats() {
	m.t.Helper()
	for _, topic := range []string{"heartbeats", primary + ".heartbeats"} {
		m.readTo(map[int32]int64{0: 2}, kgo.ConsumeTopics(topic))
	}
}

// alter adds partitions to a topic of the source and changes configs.
func (m *mirror) alter() {
	m.t.Helper()
	if _, err := m.sources.UpdatePartitions(m.ctx, 5, orders); err != nil {
		m.t.Fatal(err)
	}
	retention := "7654321"
	changes := []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "retention.ms", Value: &retention}, {Op: kadm.DeleteConfig, Name: "max.message.bytes"},
	}
	if _, err := m.sources.AlterTopicConfigs(m.ctx, changes, orders); err != nil {
		m.t.Fatal(err)
	}
	m.topics[orders] = map[string]string{"retention.ms": retention, "max.message.bytes": "1048588"}
}

// checkRemoteOffsets compares what MirrorMaker's own client reads from the checkpoints with the groups' offsets, which
// follow them.
func (m *mirror) checkRemoteOffsets() {
	m.t.Helper()
	groups := []string{stopsAtEnd, stopsMidway}
	argv := harness.MirrorJava(m.t, mirrorHeap, harness.JavaSource(m.t, "RemoteOffsets.java"),
		append([]string{m.target.Addr, primary}, groups...)...)
	harness.Eventually(m.t, mirrorLimit, "the groups are where their checkpoints are", func() error {
		out, err := harness.TryRun(mirrorLimit, "", argv...)
		if err != nil {
			return err
		}
		got := strings.Split(strings.TrimSpace(out), "\n")
		want := []string{"upstream [" + primary + "]", "hops 1"}
		for _, group := range groups {
			offsets, err := m.targets.FetchOffsets(m.ctx, group)
			if err != nil {
				return err
			}
			offsets.Each(func(o kadm.OffsetResponse) {
				want = append(want, fmt.Sprintf("offset %s %s-%d %d", group, o.Topic, o.Partition, o.At))
			})
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("groups' offsets (-) and RemoteClusterUtils (+):\n%s", diff)
		}
		return nil
	})
}

// checkContinues moves the groups to the target: the first goes on right after its last record, the other misses none.
func (m *mirror) checkContinues() {
	m.t.Helper()
	ends := m.ends(orders)
	for group, want := range m.groups {
		got := m.readTo(ends, kgo.ConsumerGroup(group), kgo.ConsumeTopics(primary+"."+orders))
		for partition := range int32(3) {
			first := got[partition][0].Offset
			m.t.Logf("%s continues at %d of partition %d, it was at %d", group, first, partition, want)
			if first > want || group == stopsAtEnd && first != want {
				m.t.Errorf("%s continues at %d of partition %d, want %d", group, first, partition, want)
			}
			if n := int64(len(got[partition])); n != ends[partition]-first {
				m.t.Errorf("%s got %d records of partition %d from %d to %d", group, n, partition, first, ends[partition])
			}
		}
	}
}
