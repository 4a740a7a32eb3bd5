// Package outagetest loads a broker while a test takes something away from it, and judges what its clients saw.
//
// Invariants: every value is sent once and is unique; a producer that does not know what became of a record says so and
// sends no other in its place; the verdict compares acknowledgements, everything that was ever read, and the final log.
package outagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/ledger"
)

const (
	// Idempotent is the topic of the producer with idempotence.
	Idempotent = "idempotent"
	// Plain is the topic of the producer without.
	Plain = "plain"

	partitions = 3
	group      = "readers"

	// pace is the time between two records of a producer: a test is to last, not to load.
	pace = 5 * time.Millisecond
	// patience bounds every wait: long, for the machine may be busy with other things.
	patience = 90 * time.Second
)

// Options change a Load. The zero value works.
type Options struct {
	// ProduceTimeout is how long the idempotent producer lets the broker try before it sends the same again, default 10 s.
	ProduceTimeout time.Duration
	// Restarts: the broker goes away at times, so that plain records and commits may fail.
	Restarts bool
}

// A Load is an idempotent producer with several requests in flight, one without idempotence that never sends anything
// twice, and a group with one member that reads both and commits. Its methods are for the test's goroutine.
type Load struct {
	t       testing.TB
	address string
	o       Options
	books   *ledger.Ledger

	acked     [2]atomic.Int64 // idempotent, plain
	read      atomic.Int64
	committed atomic.Int64 // commits that were acknowledged

	producers                    []*kgo.Client
	stopProducing, stopConsuming context.CancelFunc
	producing, consuming         sync.WaitGroup
	flooding                     sync.WaitGroup
}

// Start creates the topics, starts the clients and returns when all of them made progress. They end with the test.
func Start(t testing.TB, address string, o Options) *Load {
	t.Helper()
	if o.ProduceTimeout == 0 {
		o.ProduceTimeout = 10 * time.Second
	}
	l := &Load{t: t, address: address, o: o, books: ledger.New()}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := kadm.NewClient(l.client()).CreateTopics(ctx, partitions, 1, nil, Idempotent, Plain); err != nil {
		t.Fatalf("create topics: %v", err)
	}
	// Clean-ups run before contexts of tests end, so these do not end with the test's.
	producing, stopProducing := context.WithCancel(context.WithoutCancel(t.Context()))
	consuming, stopConsuming := context.WithCancel(context.WithoutCancel(t.Context()))
	l.stopProducing, l.stopConsuming = stopProducing, stopConsuming
	t.Cleanup(l.end)
	common := []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.UnknownTopicRetries(-1),
	}
	idempotent := l.client(append(common, kgo.DefaultProduceTopic(Idempotent), kgo.ProduceRequestTimeout(o.ProduceTimeout),
		kgo.MaxBufferedRecords(20_000), kgo.StopProducerOnDataLossDetected())...)
	plain := l.client(append(common, kgo.DefaultProduceTopic(Plain), kgo.ProduceRequestTimeout(2*patience), kgo.RecordRetries(0),
		kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(5), kgo.MaxBufferedRecords(200))...)
	l.producers = []*kgo.Client{idempotent, plain}
	l.producing.Go(func() { l.produce(producing, idempotent, 0) })
	l.producing.Go(func() { l.produce(producing, plain, 1) })
	member := l.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(Idempotent, Plain), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RetryTimeout(patience), kgo.RequestRetries(1<<20))
	l.consuming.Go(func() { l.consume(consuming, member) })
	l.AwaitProgress("at the beginning")
	return l
}

func (l *Load) client(opts ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	opts = append(opts, kgo.SeedBrokers(l.address), kgo.MetadataMinAge(100*time.Millisecond), kgo.AlwaysRetryEOF())
	client, err := kgo.NewClient(opts...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(client.Close)
	return client
}

// end stops what still runs.
func (l *Load) end() {
	l.stopProducing()
	l.stopConsuming()
	l.producing.Wait()
	l.consuming.Wait()
	l.flooding.Wait()
}

// produce sends "<number>" until ctx ends.
func (l *Load) produce(ctx context.Context, client *kgo.Client, which int) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		// The record outlives ctx: it was promised to the broker and must get its answer.
		l.send(ctx, client, which, fmt.Appendf(nil, "%09d", n))
		<-tick.C
	}
}

func (l *Load) send(ctx context.Context, client *kgo.Client, which int, value []byte) {
	done := func(r *kgo.Record, err error) {
		switch {
		case err == nil:
			l.books.Ack(ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, name(r))
			l.acked[which].Add(1)
		case which == 1 && l.o.Restarts:
			l.books.Lose()
		default:
			l.books.Fail("produce %q to %s: %v", name(r), r.Topic, err)
		}
	}
	// A producer whose buffer is full waits for nobody: it leaves the record out.
	client.TryProduce(context.WithoutCancel(ctx), &kgo.Record{Value: value}, func(r *kgo.Record, err error) {
		if !errors.Is(err, kgo.ErrMaxBuffered) {
			done(r, err)
		}
	})
}

// nameSize is how many bytes of a value tell it from all others.
const nameSize = 20

func name(r *kgo.Record) string { return string(r.Value[:min(len(r.Value), nameSize)]) }

func (l *Load) consume(ctx context.Context, member *kgo.Client) {
	for ctx.Err() == nil {
		fetches := member.PollRecords(ctx, 1000)
		n := int64(0)
		fetches.EachRecord(func(r *kgo.Record) {
			l.books.See(ledger.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, name(r))
			n++
		})
		l.read.Add(n)
		if member.CommitUncommittedOffsets(ctx) == nil {
			l.committed.Add(1)
		}
	}
}

// A mark is how far the clients had come.
type mark struct{ acked, plain, read, committed int64 }

// mark returns how far the clients have come.
func (l *Load) mark() mark {
	return mark{l.acked[0].Load(), l.acked[1].Load(), l.read.Load(), l.committed.Load()}
}

// AwaitProgress returns when each producer got more acknowledgements, and more was read and committed.
func (l *Load) AwaitProgress(when string) {
	l.t.Helper()
	from := l.mark()
	Eventually(l.t, "progress "+when, func() error {
		now := l.mark()
		if now.acked < from.acked+20 || now.plain < from.plain+20 || now.read < from.read+20 || now.committed < from.committed+2 {
			return fmt.Errorf("from %+v to %+v", from, now)
		}
		return nil
	})
}

// Acked returns how many records are acknowledged.
func (l *Load) Acked() int64 { return l.acked[0].Load() + l.acked[1].Load() }

// Eventually looks until cond returns nil, and fails the test with its last error when that takes too long.
func Eventually(t testing.TB, what string, cond func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s: %v", what, err)
		case <-tick.C:
		}
	}
}
