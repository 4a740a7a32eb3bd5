package workload

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/verify"
)

// pollTimeout bounds a poll, so that a consumer without news looks around at times.
const pollTimeout = time.Second

// A reader reads all partitions from their beginning, and is never moved.
type reader struct {
	w         *Workload
	name      string
	client    *kgo.Client
	positions []atomic.Int64 // by partition
	// fetched is when the last poll that returned something of a partition began: what the next one returns of it was asked
	// for later, because a client asks for a partition anew only when it has handed over what it got.
	fetched []time.Duration
}

func newReader(w *Workload, number int) (*reader, error) {
	start := map[int32]kgo.Offset{}
	for p := range w.o.Partitions {
		start[p] = kgo.NewOffset().At(0)
	}
	client, err := kgo.NewClient(w.o.clientOptions(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{w.o.Topic: start}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // never moved
		kgo.FetchMaxWait(500*time.Millisecond),
	)...)
	if err != nil {
		return nil, err
	}
	return &reader{
		w: w, name: fmt.Sprintf("reader-%d", number), client: client,
		positions: make([]atomic.Int64, w.o.Partitions), fetched: make([]time.Duration, w.o.Partitions),
	}, nil
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	defer r.client.Close()
	for ctx.Err() == nil {
		begin := r.w.rec.now()
		polling, cancel := context.WithTimeout(ctx, pollTimeout)
		fetches := r.client.PollFetches(polling)
		cancel()
		span := verify.Span{Begin: begin, End: r.w.rec.now()}
		r.w.rec.note(func(h *verify.History) {
			fetches.EachTopic(func(t kgo.FetchTopic) {
				t.EachPartition(func(p kgo.FetchPartition) {
					if t.Topic == r.w.o.Topic { // an error of the whole poll has no topic
						r.note(h, span, p)
					}
				})
			})
		})
	}
}

// note takes down what a poll returned of a partition.
func (r *reader) note(h *verify.History, span verify.Span, p kgo.FetchPartition) {
	position := r.positions[p.Partition].Load()
	poll := verify.Poll{Span: span, Consumer: r.name, Partition: p.Partition, Position: position}
	if text := readError(p.Err); text != "" {
		poll.Error = text
		h.Polls = append(h.Polls, poll)
		r.w.o.Log.Warn("read", "consumer", r.name, "partition", p.Partition, "error", p.Err)
	}
	if len(p.Records) == 0 {
		return
	}
	poll.Error, poll.Records = "", r.w.records(p.Records)
	h.Polls = append(h.Polls, poll)
	seen := verify.Span{Begin: r.fetched[p.Partition], End: span.End}
	h.EndOffsets = append(h.EndOffsets, verify.EndOffset{Span: seen, Client: r.name, Partition: p.Partition, Offset: p.HighWatermark})
	r.positions[p.Partition].Store(p.Records[len(p.Records)-1].Offset + 1)
	r.fetched[p.Partition] = span.Begin
}

// readError is what a cluster said instead of records. That a client stops waiting is nothing that it said.
func readError(err error) string {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed) {
		return ""
	}
	return err.Error()
}

func (w *Workload) records(read []*kgo.Record) []verify.Record {
	out := make([]verify.Record, len(read))
	for i, r := range read {
		out[i] = verify.Read(w.run, r.Offset, r.Value)
	}
	return out
}
