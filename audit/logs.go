package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// tail is what a log holds from its trim on.
type tail struct {
	// end is the first slot that is not data.
	end int64
	// broken: a slot of it could not be read, so the offsets may have holes that are reported already.
	broken bool
	runs   map[protocol.PartitionID]*tailRun
}

// tailRun is one partition's chunks in a tail.
type tailRun struct {
	// bases are the chunks' first offsets; next follows the last one.
	bases []int64
	next  int64
	// slot is the number of the slot that holds the last chunk, epoch its leader epoch.
	slot  int64
	epoch int32
	first int32
}

// logWalk is the audit of one life's log.
type logWalk struct {
	*checker
	st  wal.StreamState
	pos int64
	// prev is the digest of slot pos-1 if known says so.
	prev  wal.Digest
	known bool
	tail  *tail
	// recovered are the chunks of the recovery object that are still to come; nil without one.
	recovered []wal.RecoveredChunk
	recovery  bool
	// last is the highest listed slot.
	last int64
}

// checkLogs reads every log from its trim to its end.
func (c *checker) checkLogs(ctx context.Context) error {
	all, err := c.opts.Metadata.AllLives(ctx)
	if err != nil {
		return err
	}
	c.report.Lives = int64(len(all))
	return each(ctx, c.opts.Concurrency, all, func(ctx context.Context, st wal.StreamState) error {
		w := &logWalk{checker: c, last: -1}
		if listed := c.objects.slots[st.Life]; len(listed) > 0 {
			w.last = listed[len(listed)-1]
		}
		w.begin(st)
		err := w.run(ctx)
		c.mu.Lock()
		c.lives[st.Life], c.tails[st.Life] = w.st, w.tail
		c.mu.Unlock()
		return err
	})
}

// begin starts at the trim.
func (w *logWalk) begin(st wal.StreamState) {
	w.st, w.pos, w.prev, w.known = st, st.Trim, wal.Digest{}, st.Trim == 0
	w.tail = &tail{end: st.Trim, runs: map[protocol.PartitionID]*tailRun{}}
	w.recovered, w.recovery = nil, false
}

func (w *logWalk) key() string { return wal.SlotKey(w.st.Life, w.pos) }

func (w *logWalk) problem(class Class, key, format string, args ...any) {
	w.report.add(Problem{Class: class, Key: key, Message: fmt.Sprintf(format, args...)})
}

// sealed reports whether metadata knows the end.
func (w *logWalk) sealed() bool { return w.st.Phase == wal.PhaseSealed }

func (w *logWalk) run(ctx context.Context) error {
	if err := w.loadRecovery(ctx); err != nil {
		return err
	}
	for {
		if !w.sealed() && w.pos > w.last {
			return nil // written since the bucket was listed, or not at all
		}
		s, bad, err := w.slot(ctx, w.key(), !w.opts.SkipData)
		if class, message, ok := absence(err); ok {
			done, err := w.absent(ctx, class, message)
			if done || err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		w.objects.refer(w.key())
		w.objects.finished(w.key())
		if bad == nil {
			bad = w.identify(w.key(), w.st.Life, w.pos, &s)
		}
		if bad != nil {
			w.problem(Damaged, w.key(), "%v", bad)
			if !w.skip() {
				return nil
			}
			continue
		}
		if w.judge(&s) {
			return nil
		}
	}
}

// identify checks that an intact slot is the one that its key names, of this cluster, and as long as it was listed.
func (c *checker) identify(key string, life wal.Life, seq int64, s *storedSlot) error {
	h := &s.header
	if h.Life != life || h.Seq != seq || h.Cluster.ID != c.image.Cluster.ID {
		return fmt.Errorf("it holds slot %d of life %s of cluster %q", h.Seq, h.Life, h.Cluster.ID)
	}
	if listed := c.objects.size(key); listed >= 0 && listed != s.size {
		return fmt.Errorf("it has %d bytes, its header says %d", listed, s.size)
	}
	return nil
}

// skip goes on behind a slot that cannot be read; false at the end.
func (w *logWalk) skip() bool {
	w.known, w.tail.broken = false, true
	w.pos++
	w.tail.end = w.pos
	return !w.sealed() || w.pos <= w.st.N
}

// absent deals with a slot that is not there, or too short to be one. It returns true at the end of the log.
func (w *logWalk) absent(ctx context.Context, class Class, message string) (done bool, err error) {
	now, err := w.opts.Metadata.Load(ctx, w.st.Life)
	if err != nil {
		return true, err
	}
	if now.Trim > w.pos && (now.Phase != wal.PhaseSealed || w.pos < now.N) || now.Phase != w.st.Phase {
		w.begin(now) // trimmed or sealed meanwhile
		return false, w.loadRecovery(ctx)
	}
	if w.sealed() || class == Damaged {
		what := "an end"
		if w.pos != w.st.N || !w.sealed() {
			what = "untrimmed data"
		}
		w.problem(class, w.key(), "%s, a slot of the log with %s", message, what)
		w.objects.refer(w.key())
		return !w.skip(), nil
	}
	return true, w.beyond(ctx)
}

// beyond looks at what lies behind an absent slot of a log without a recorded end. A writer's window reaches MaxWindow-1 slots behind its
// first unresolved one and holds no end (W3, S4); a slot that was listed is never taken away but below the trim (G2).
func (w *logWalk) beyond(ctx context.Context) error {
	w.tail.end = w.pos
	listed := w.objects.slots[w.st.Life]
	i, was := slices.BinarySearch(listed, w.pos)
	lost := was || listed[len(listed)-1] >= w.pos+wal.MaxWindow
	for _, seq := range listed[i:] {
		if lost || seq >= w.pos+wal.MaxWindow {
			break
		}
		s, bad, err := w.slot(ctx, wal.SlotKey(w.st.Life, seq), false)
		if errors.Is(err, objectstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		lost = bad == nil && s.header.Kind.Ends()
	}
	if lost {
		w.problem(Missing, w.key(), "the slot is missing, but later ones prove that it was there")
	}
	return nil
}

// judge takes an intact slot into the log. It returns true at the end.
func (w *logWalk) judge(s *storedSlot) (end bool) {
	h := &s.header
	if w.known && h.Prev != w.prev {
		w.problem(Log, w.key(), "%v follows digest %x, want %x", h.Kind, h.Prev, w.prev)
	}
	if w.sealed() && w.pos == w.st.N {
		switch {
		case !h.Kind.Ends():
			w.problem(Log, w.key(), "it is a %v slot where the log has ended", h.Kind)
		case h.Prev != w.st.Digest || w.known && w.prev != w.st.Digest:
			w.problem(Log, w.key(), "the log ends behind digest %x, metadata says %x", h.Prev, w.st.Digest)
		}
		w.compareRecovered(nil)
		return true
	}
	if h.Kind.Ends() {
		if w.sealed() {
			w.problem(Log, w.key(), "it is a %v below the end %d", h.Kind, w.st.N)
		}
		return true
	}
	for i := range s.chunks {
		w.take(&s.chunks[i], s.object)
	}
	w.compareRecovered(s)
	w.pos, w.prev, w.known = w.pos+1, h.Digest, true
	w.tail.end = w.pos
	return false
}

// take adds a chunk to its partition's run.
func (w *logWalk) take(c *wal.Chunk, object []byte) {
	place := func(class Class, format string, args ...any) {
		p := Problem{Class: class, Key: w.key(), First: &c.BaseOffset, Last: &c.LastOffset, Message: fmt.Sprintf(format, args...)}
		p.Topic, p.Partition = topicName(w.image, c.Partition.Topic), &c.Partition.Partition
		w.report.add(p)
	}
	run := w.tail.runs[c.Partition]
	if run == nil {
		run = &tailRun{next: c.BaseOffset, slot: -1, epoch: c.LeaderEpoch, first: c.LeaderEpoch}
		w.tail.runs[c.Partition] = run
	}
	switch {
	case w.tail.broken:
	case c.BaseOffset != run.next:
		place(Offsets, "the chunk before ended at offset %d", run.next-1)
	case run.slot >= 0 && c.PrevSlot != run.slot || run.slot < 0 && c.PrevSlot >= w.st.Trim:
		place(Log, "the chunk names slot %d as its predecessor, which is in %d", c.PrevSlot, run.slot)
	}
	if c.LeaderEpoch < run.epoch {
		place(Epochs, "leader epoch %d follows %d", c.LeaderEpoch, run.epoch)
	}
	run.bases = append(run.bases, c.BaseOffset)
	run.next, run.slot, run.epoch = c.LastOffset+1, w.pos, c.LeaderEpoch
	if object == nil {
		return
	}
	r := batchRun{Extent: partition.Extent{Base: c.BaseOffset, Last: c.LastOffset, MaxTimestamp: c.MaxTimestamp}}
	n, bad := r.check(object[c.Pos : c.Pos+c.Len])
	w.report.count(func(r *Report) { r.Batches += n })
	if bad != nil {
		place(bad.class, "%s", bad.message)
	}
}
