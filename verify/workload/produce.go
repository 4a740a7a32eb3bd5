package workload

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/verify"
)

// A budget is how many records all producers may send together.
type budget struct {
	limit int64 // 0: any number
	taken atomic.Int64
}

func (b *budget) take() bool { return b.limit == 0 || b.taken.Add(1) <= b.limit }

// A producer sends its share of the records, to all partitions in turn.
type producer struct {
	w         *Workload
	number    int32
	client    *kgo.Client
	budget    *budget
	sequences []int64 // next ones, by partition
	waiting   sync.WaitGroup
	end       sync.Once
}

func newProducer(w *Workload, number int32, b *budget) (*producer, error) {
	client, err := kgo.NewClient(w.o.clientOptions(
		kgo.DefaultProduceTopic(w.o.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(maxBuffered), kgo.UnknownTopicRetries(-1),
		// A client that went on after it lost its sequence could store a record twice and be in the right.
		kgo.StopProducerOnDataLossDetected(),
	)...)
	if err != nil {
		return nil, err
	}
	return &producer{w: w, number: number, client: client, budget: b, sequences: make([]int64, w.o.Partitions)}, nil
}

// sendEvery is how often what is due is sent.
const sendEvery = 10 * time.Millisecond

// run sends until ctx ends or the budget is used up.
func (p *producer) run(ctx context.Context) {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	perSecond := p.w.o.Rate / float64(p.w.o.Producers)
	due, last := 0.0, time.Now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due += now.Sub(last).Seconds() * perSecond
			last = now
		}
		for ; due >= 1; due-- {
			if p.client.BufferedProduceRecords() >= maxBuffered/2 {
				due = 0 // what could not be sent in an outage is not sent after it
				break
			}
			if !p.budget.take() {
				return
			}
			p.send(ctx, int32((n+int(p.number))%len(p.sequences)))
			n++
		}
	}
}

func (p *producer) send(ctx context.Context, partition int32) {
	id := verify.ID{Producer: p.number, Partition: partition, Sequence: p.sequences[partition]}
	p.sequences[partition]++
	value, sum := verify.Value(p.w.run, id, p.w.o.RecordBytes)
	p.waiting.Add(1)
	begin := p.w.rec.now()
	// The record outlives ctx: it was promised to the cluster and must get its answer. Try, for a full buffer must not block.
	p.client.TryProduce(context.WithoutCancel(ctx), &kgo.Record{Partition: partition, Value: value}, func(r *kgo.Record, err error) {
		defer p.waiting.Done()
		s := verify.Send{Span: verify.Span{Begin: begin, End: p.w.rec.now()}, ID: id, Sum: sum, Outcome: outcome(err)}
		if err == nil {
			s.Offset = r.Offset
		} else {
			s.Error = err.Error()
		}
		p.w.rec.note(func(h *verify.History) { h.Sends = append(h.Sends, s) })
	})
}

// refusals are answers by which a cluster stores nothing, and would not have stored an earlier attempt either.
var refusals = []error{
	kgo.ErrMaxBuffered, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation,
	kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.InvalidTopicException, kerr.InvalidRequiredAcks,
}

func outcome(err error) verify.Outcome {
	if err == nil {
		return verify.Acknowledged
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return verify.Failed
		}
	}
	return verify.Unknown
}

// finish closes the client, by which every record has an outcome. It may be called again.
func (p *producer) finish() {
	p.end.Do(func() {
		p.client.Close()
		p.waiting.Wait()
	})
}
