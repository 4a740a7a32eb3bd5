package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// freshFor is how old the proof behind an answer that promises freshness may be, as in package broker.
const freshFor = 8 * time.Second

// reader consumes one partition: it asks whom it takes for the leader, or somebody else, and never goes back to an older leader epoch.
type reader struct {
	w     *world
	part  protocol.PartitionID
	epoch int32
	high  int64
	// asked counts requests, and heard is the last one that was answered: answers that come late are not listened to.
	asked, heard int
}

// poll asks once, and again later.
func (r *reader) poll() {
	w := r.w
	w.after(w.between(100*time.Millisecond, 2*time.Second), r.poll)
	n, ok := pick(w, w.alive())
	if !ok {
		return
	}
	if t := n.image.TopicsByID[r.part.Topic]; t != nil && t.Partitions[r.part.Partition].LeaderEpoch >= r.epoch {
		r.epoch = t.Partitions[r.part.Partition].LeaderEpoch
		if at := w.nodeOf(t.Partitions[r.part.Partition].Owner.Broker); at != nil && !w.faulty(.3) {
			n = at
		}
	}
	n.after(w.delay(), func() {
		if n.ready {
			n.fetch(r)
			n.latest(r.part, false)
		}
	})
}

// fetch answers a reader that believes in an epoch (KIP-320), with the high watermark and now and then with records.
func (n *node) fetch(r *reader) {
	w, want := n.w, r.epoch
	r.asked++
	turn := r.asked
	l, ok := n.set.Get(r.part)
	if !ok {
		return
	}
	st := l.State()
	if st.LeaderEpoch != want && !w.cfg.mistakes.anyEpoch {
		return // fenced, or unknown
	}
	w.truth.watermark(n, r.part, st)
	w.after(w.delay(), func() {
		if want < r.epoch || turn < r.heard {
			return // the reader knows better by now
		}
		r.heard = turn
		if st.HighWatermark < r.high {
			w.violate("watermark", "a reader of %d saw the high watermark go from %d to %d", r.part.Partition, r.high, st.HighWatermark)
		}
		r.high = st.HighWatermark
	})
	if w.chance(.2) {
		n.readAll(r.part, l, func(error) {})
	}
}

// latest answers what the end of a partition is, which promises freshness: no more than freshFor ago nobody else can have written.
func (n *node) latest(id protocol.PartitionID, asked bool) {
	w, m := n.w, &n.w.cfg.mistakes
	l, ok := n.set.Get(id)
	switch {
	case !ok || !l.Settled():
	case w.now()-n.proof < freshFor || time.Since(n.writer.ProvenAt()) < freshFor || m.freshFenced:
		w.truth.promised(n, id, l.State().HighWatermark)
	case !asked:
		began := w.now()
		n.spawn(fmt.Sprintf("proof %d", id.Partition), func(ctx context.Context) error {
			st, err := n.meta.Load(ctx, n.life)
			if err == nil && st.Phase != wal.PhaseOpen {
				err = metadata.ErrFenced
			}
			return err
		}, func(err error) {
			if err == nil {
				n.proof = max(n.proof, began)
				n.latest(id, true)
			}
		})
	}
}

// readAll reads a log from its start and holds what it finds against the truth.
func (n *node) readAll(id protocol.PartitionID, l *partition.Log, done func(error)) {
	st := l.State()
	var found []record.Batch
	n.w.trace("reads", "partition %d from %s", id.Partition, n.name)
	n.spawn(fmt.Sprintf("read %d", id.Partition), func(ctx context.Context) error {
		for offset := st.LogStart; offset < st.HighWatermark; {
			res, err := l.Read(ctx, partition.ReadInput{Offset: offset, MaxBytes: 1 << 20, AtLeastOne: true})
			if err != nil {
				return err
			}
			for _, run := range res.Batches {
				for len(run) > 0 {
					b, rest, err := record.Next(run)
					if err != nil {
						return fmt.Errorf("batch at %d: %w", offset, err)
					}
					found, run, offset = append(found, b), rest, b.LastOffset()+1
				}
			}
			if res.Bytes == 0 {
				return fmt.Errorf("nothing at %d, below the high watermark %d", offset, st.HighWatermark)
			}
		}
		return nil
	}, func(err error) {
		if end := l.State(); err == nil && end.HighWatermark == st.HighWatermark {
			n.w.truth.contents(n, id, st, found) // what compaction took away meanwhile, it did for records that are found
		}
		done(err)
	})
}
