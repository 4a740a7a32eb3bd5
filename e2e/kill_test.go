package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
	"github.com/tidemill/tidemill/internal/ledger"
)

const (
	kills = 20
	// acksBetweenKills is enough for batches of every producer to be in flight, and for a few of the log's slots.
	acksBetweenKills = 2000
	// Each of the four producers sends burst records per beat: much less than any broker takes, so that a kill meets a few
	// batches in flight and the final reading is short.
	burst            = 20
	beat             = 10 * time.Millisecond
	killPartitions   = 3
	idempotentTopic  = "idempotent"
	connectLikeTopic = "connect-like"
	killGroup        = "kill-group"
)

// TestKillLoop kills the broker 20 times under producers that know nothing about it. Every acknowledged record must be at
// its acknowledged offset, exactly once if its producer is idempotent; offsets are never given out again, and
// committed offsets stay. A producer without idempotence may leave an unacknowledged retry as an extra record, as on Kafka.
func TestKillLoop(t *testing.T) {
	broker := harness.NewBroker(t, harness.Settings{"group.initial.rebalance.delay.ms": "0"})
	admin := kadm.NewClient(broker.Client())
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	for _, topic := range []string{idempotentTopic, connectLikeTopic} {
		if _, err := admin.CreateTopic(ctx, killPartitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	books := ledger.New()
	load := startLoad(ctx, t, broker, books)
	commits := startCommitter(ctx, t, broker, books)
	for range kills {
		before, committed := acked(books), commits.count()
		harness.Eventually(t, time.Minute, "producers and the group make progress", func() error {
			if n := acked(books) - before; n < acksBetweenKills {
				return fmt.Errorf("%d new acknowledgements", n)
			}
			if commits.count() == committed {
				return errors.New("no new commit")
			}
			return nil
		})
		broker.Kill9()
		promised := commits.promised()
		broker.Start()
		checkCommits(ctx, t, admin, promised)
	}
	load.finish(ctx, t)
	commits.stop()
	checkCommits(ctx, t, admin, commits.promised())
	final := readAll(ctx, t, broker, admin, idempotentTopic, connectLikeTopic)
	t.Logf("%d acknowledged, %d in the log", acked(books), len(final))
	compareBooks(t, books, final, idempotentTopic)
	checkOrder(t, final)
}

// load is a set of producers at work.
type load struct {
	stop      context.CancelFunc
	running   sync.WaitGroup
	producers []*kgo.Client
}

// startLoad starts two idempotent producers and two like Connect's: acks=all, one request in flight, idempotence off.
func startLoad(ctx context.Context, t *testing.T, broker *harness.Broker, books *ledger.Ledger) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	t.Cleanup(stop)
	for i := range 4 {
		topic := idempotentTopic
		opts := []kgo.Opt{kgo.StopProducerOnDataLossDetected()}
		if i%2 == 1 {
			topic = connectLikeTopic
			opts = []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1)}
		}
		opts = append(opts, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
			kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedRecords(200), kgo.ProducerLinger(2*time.Millisecond))
		client := broker.Client(opts...)
		l.producers = append(l.producers, client)
		l.running.Go(func() { produce(ctx, client, strconv.Itoa(i), books) })
	}
	return l
}

// produce sends "<name>-<number>" until ctx ends.
func produce(ctx context.Context, client *kgo.Client, name string, books *ledger.Ledger) {
	pace := time.NewTicker(beat)
	defer pace.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		if n%burst == 0 {
			<-pace.C
		}
		// The record outlives ctx: it was promised to the broker and must get its answer.
		record := &kgo.Record{Value: fmt.Appendf(nil, "%s-%09d", name, n)}
		client.Produce(context.WithoutCancel(ctx), record, func(r *kgo.Record, err error) {
			if err != nil {
				books.Fail("produce %s: %v", r.Value, err)
				return
			}
			books.Ack(ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, string(r.Value))
		})
	}
}

// finish ends the load and waits for every answer.
func (l *load) finish(ctx context.Context, t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	for _, client := range l.producers {
		if err := client.Flush(ctx); err != nil {
			t.Fatalf("flush: %v", err)
		}
	}
}

// A committer is a group member that commits after each poll and remembers what the broker promised to keep.
type committer struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	mu      struct {
		sync.Mutex
		kept    map[string]map[int32]int64
		commits int
	}
}

func startCommitter(ctx context.Context, t *testing.T, broker *harness.Broker, books *ledger.Ledger) *committer {
	ctx, cancel := context.WithCancel(ctx)
	c := &committer{cancel: cancel}
	c.mu.kept = map[string]map[int32]int64{}
	t.Cleanup(cancel)
	client := broker.Client(kgo.ConsumerGroup(killGroup), kgo.ConsumeTopics(idempotentTopic, connectLikeTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchMaxWait(time.Second))
	c.running.Go(func() {
		for ctx.Err() == nil {
			fetches := client.PollRecords(ctx, 500)
			fetches.EachRecord(func(r *kgo.Record) {
				books.See(ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, string(r.Value))
			})
			if client.CommitUncommittedOffsets(ctx) == nil {
				c.note(client.CommittedOffsets())
			}
		}
	})
	return c
}

func (c *committer) note(offsets map[string]map[int32]kgo.EpochOffset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.commits++
	for topic, partitions := range offsets {
		if c.mu.kept[topic] == nil {
			c.mu.kept[topic] = map[int32]int64{}
		}
		for partition, at := range partitions {
			c.mu.kept[topic][partition] = at.Offset
		}
	}
}

func (c *committer) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.commits
}

// promised is a copy of the offsets that the broker acknowledged.
func (c *committer) promised() map[ledger.Place]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := map[ledger.Place]bool{}
	for topic, partitions := range c.mu.kept {
		for partition, offset := range partitions {
			kept[ledger.Place{Topic: topic, Partition: partition, Offset: offset}] = true
		}
	}
	return kept
}

func (c *committer) stop() {
	c.cancel()
	c.running.Wait()
}

// checkCommits asks for the group's offsets: they may be ahead of what was promised, never behind.
func checkCommits(ctx context.Context, t *testing.T, admin *kadm.Client, promised map[ledger.Place]bool) {
	t.Helper()
	var got kadm.OffsetResponses
	harness.Eventually(t, time.Minute, "fetch the group's offsets", func() (err error) { // old connections died with the broker
		got, err = admin.FetchOffsets(ctx, killGroup)
		return err
	})
	for want := range promised {
		if o, ok := got.Lookup(want.Topic, want.Partition); !ok || o.Err != nil || o.At < want.Offset {
			t.Errorf("group has offset %d (%v) after the restart, %v was acknowledged", o.At, o.Err, want)
		}
	}
}

// readAll reads topics from the start to the end, and checks that no offset is missing in between.
func readAll(ctx context.Context, t *testing.T, broker *harness.Broker, admin *kadm.Client, topics ...string) map[ledger.Place]string {
	t.Helper()
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	ends.Each(func(o kadm.ListedOffset) { want += int(o.Offset) })
	client := broker.Client(kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	final := map[ledger.Place]string{}
	next := map[ledger.Place]int64{}
	for len(final) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %d of %d records: %v", len(final), want, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			log := ledger.Place{Topic: r.Topic, Partition: r.Partition}
			if r.Offset != next[log] {
				t.Errorf("%s/%d: offset %d follows %d", r.Topic, r.Partition, r.Offset, next[log]-1)
			}
			next[log] = r.Offset + 1
			final[ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}] = string(r.Value)
		})
	}
	return final
}

// checkOrder checks that an idempotent producer's records are in the order in which it sent them.
func checkOrder(t *testing.T, final map[ledger.Place]string) {
	t.Helper()
	report := limited(t)
	for partition := range int32(killPartitions) {
		last := map[string]string{}
		for offset := int64(0); ; offset++ {
			value, ok := final[ledger.Place{Topic: idempotentTopic, Partition: partition, Offset: offset}]
			if !ok {
				break
			}
			name, _, _ := strings.Cut(value, "-")
			if value < last[name] {
				report("%s/%d@%d: %q follows %q", idempotentTopic, partition, offset, value, last[name])
			}
			last[name] = value
		}
	}
}
