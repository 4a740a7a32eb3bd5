// Package workload sends, reads and commits on a Kafka-compatible cluster, and records all of it as a history for package
// verify.
//
//	w, err := workload.Start(ctx, workload.Options{Bootstrap: addresses})
//	...                        // do to the cluster what it must survive
//	history, err := w.Stop(ctx)
//	verdict := verify.Check(history)
//
// Everything is kept in memory: about 250 bytes for a record that was sent and read three times.
package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/verify"
)

// A Workload is at work from Start to Stop or Close.
type Workload struct {
	o     Options
	run   uint64 // in the value of every record
	rec   *recorder
	admin *kadm.Client

	producers []*producer
	readers   []*reader
	committed []atomic.Int64 // by partition, the highest acknowledged commit of the group

	stopSending, stopReading context.CancelFunc
	sending, reading         sync.WaitGroup
	sent                     chan struct{}
	close                    sync.Once
	closed                   atomic.Bool
}

var errClosed = errors.New("the workload is stopped already")

// startTimeout bounds the first contact and the creation of the topic.
const startTimeout = 30 * time.Second

// Start creates the topic and puts all clients to work. They go on when ctx ends, until Stop or Close.
func Start(ctx context.Context, o Options) (*Workload, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Workload{o: o, run: rand.Uint64(), rec: newRecorder(o.Topic, o.Partitions), sent: make(chan struct{})}
	w.committed = make([]atomic.Int64, o.Partitions)
	// They outlive ctx, which bounds the start only.
	working := context.WithoutCancel(ctx)
	sending, stopSending := context.WithCancel(working)
	reading, stopReading := context.WithCancel(working)
	w.stopSending, w.stopReading = stopSending, stopReading
	if err := w.start(ctx, sending, reading); err != nil {
		w.Close()
		return nil, fmt.Errorf("start workload: %w", err)
	}
	return w, nil
}

func (w *Workload) start(ctx, sending, reading context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, err := kgo.NewClient(w.o.clientOptions()...)
	if err != nil {
		return err
	}
	w.admin = kadm.NewClient(client)
	if err := w.createTopic(ctx); err != nil {
		return err
	}
	budget := &budget{limit: w.o.Records}
	for i := range w.o.Producers {
		p, err := newProducer(w, int32(i), budget)
		if err != nil {
			return err
		}
		w.producers = append(w.producers, p)
	}
	for i := range w.o.Consumers {
		r, err := newReader(w, i)
		if err != nil {
			return err
		}
		w.readers = append(w.readers, r)
		w.reading.Go(func() { r.run(reading) })
	}
	for i := range w.o.Members {
		m, err := newMember(w, i)
		if err != nil {
			return err
		}
		w.reading.Go(func() { m.run(reading) })
	}
	w.reading.Go(func() { w.probe(reading) })
	for _, p := range w.producers {
		w.sending.Go(func() { p.run(sending) })
	}
	go func() { // ends when the producers do, which Close sees to
		w.sending.Wait()
		close(w.sent)
	}()
	return nil
}

// createTopic returns when every partition of the new topic has a leader that answers.
func (w *Workload) createTopic(ctx context.Context) error {
	tried := false
	for ; ; tried = true {
		_, err := w.admin.CreateTopic(ctx, w.o.Partitions, w.o.Replication, w.o.Configs, w.o.Topic)
		if err == nil || tried && errors.Is(err, kerr.TopicAlreadyExists) { // an attempt may succeed and its answer be lost
			break
		}
		if !kerr.IsRetriable(err) || !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("create topic %s: %w", w.o.Topic, err)
		}
	}
	ends, err := w.listed(ctx, w.admin.ListEndOffsets)
	for _, end := range ends {
		if tried && end.Offset > 0 {
			return fmt.Errorf("create topic %s: %w, and has records", w.o.Topic, kerr.TopicAlreadyExists)
		}
	}
	return err
}

// listed asks for an offset of every partition until all are answered.
func (w *Workload) listed(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]kadm.ListedOffset, error) {
	for {
		offsets, err := list(ctx, w.o.Topic)
		if err == nil {
			err = offsets.Error()
		}
		if err == nil && len(offsets[w.o.Topic]) == int(w.o.Partitions) {
			return offsets[w.o.Topic], nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return nil, fmt.Errorf("offsets of topic %s: %w", w.o.Topic, errors.Join(err, ctx.Err()))
		}
	}
}

// pause waits and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Topic is the name of the topic.
func (w *Workload) Topic() string { return w.o.Topic }

// Elapsed is the time since the run began, which is what all times in the history are.
func (w *Workload) Elapsed() time.Duration { return w.rec.now() }

// Sent is closed when all records of Options.Records are sent, or Stop was called.
func (w *Workload) Sent() <-chan struct{} { return w.sent }

// Counts says what happened so far.
func (w *Workload) Counts() verify.Counts {
	return with(w.rec, func(h *verify.History) verify.Counts { return h.Count() })
}

// LongestGap returns the longest time between from and to in which nothing was acknowledged.
func (w *Workload) LongestGap(from, to time.Duration) verify.Gap {
	return with(w.rec, func(h *verify.History) verify.Gap { return h.LongestGap(from, to) })
}

// LongestPartitionGap returns the longest time in which one partition had nothing acknowledged.
func (w *Workload) LongestPartitionGap(from, to time.Duration) verify.Gap {
	return with(w.rec, func(h *verify.History) verify.Gap { return h.LongestPartitionGap(from, to) })
}

// Stop ends the sending, waits for acknowledgements and for readers, reads the final log and returns the history. It waits
// for a cluster that does not answer as long as ctx allows. When the log could not be read the history comes beside the
// error, without it.
func (w *Workload) Stop(ctx context.Context) (*verify.History, error) {
	if w.closed.Load() {
		return w.rec.finished(), errClosed
	}
	w.stopSending()
	w.sending.Wait()
	w.settle(ctx, "acknowledgements", func(ctx context.Context) error {
		for _, p := range w.producers {
			if err := p.client.Flush(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	for _, p := range w.producers {
		p.finish() // what is without an answer now is unknown
	}
	w.settle(ctx, "consumers", w.awaitReaders)
	w.stopReading()
	w.reading.Wait()
	err := w.readLogs(ctx)
	w.Close()
	return w.rec.finished(), err
}

// settle gives something time. What does not come in time is in the verdict, and is no error.
func (w *Workload) settle(ctx context.Context, what string, wait func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.Settle)
	defer cancel()
	if err := wait(ctx); err != nil {
		w.o.Log.Warn("did not settle", "what", what, "error", err)
	}
}

// awaitReaders returns when every reader and the group's commits are where the log ended when it was called.
func (w *Workload) awaitReaders(ctx context.Context) error {
	ends, err := w.listed(ctx, w.admin.ListEndOffsets)
	if err != nil {
		return err
	}
	for _, end := range ends {
		for _, r := range w.readers {
			if err := await(ctx, r.name, end, &r.positions[end.Partition]); err != nil {
				return err
			}
		}
		if w.o.Members == 0 {
			continue
		}
		if err := await(ctx, "group "+w.o.Group, end, &w.committed[end.Partition]); err != nil {
			return err
		}
	}
	return nil
}

// raise notes a commit that was acknowledged.
func (w *Workload) raise(partition int32, offset int64) {
	for at := w.committed[partition].Load(); at < offset; at = w.committed[partition].Load() {
		if w.committed[partition].CompareAndSwap(at, offset) {
			return
		}
	}
}

// await returns when a position is at the end of its partition.
func await(ctx context.Context, who string, end kadm.ListedOffset, position *atomic.Int64) error {
	for position.Load() < end.Offset {
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s is at offset %d of partition %d, which ends at %d", who, position.Load(), end.Partition, end.Offset)
		}
	}
	return nil
}

// Remove deletes the topic and the group from the cluster. It may be called after Stop.
func (w *Workload) Remove(ctx context.Context) error {
	client, err := kgo.NewClient(w.o.clientOptions()...)
	if err != nil {
		return fmt.Errorf("remove topic %s: %w", w.o.Topic, err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if w.o.Members > 0 {
		if _, err := admin.DeleteGroup(ctx, w.o.Group); err != nil {
			return fmt.Errorf("delete group %s: %w", w.o.Group, err)
		}
	}
	if _, err := admin.DeleteTopic(ctx, w.o.Topic); err != nil {
		return fmt.Errorf("delete topic %s: %w", w.o.Topic, err)
	}
	return nil
}

// Close ends everything at once. It may be called at any time and again.
func (w *Workload) Close() {
	w.close.Do(func() {
		w.closed.Store(true)
		w.stopSending()
		w.stopReading()
		w.sending.Wait()
		w.reading.Wait()
		for _, p := range w.producers {
			p.finish()
		}
		if w.admin != nil {
			w.admin.Close()
		}
	})
}
