package partition

import (
	"cmp"
	"slices"
	"time"

	"github.com/tidemill/tidemill/protocol/record"
)

const (
	// producerBatches is how many batches of a producer are remembered: as many as a client may have in flight (P1, P11).
	producerBatches = 5
	// noEpoch is the epoch of a producer that is not known; also one that a client may use (P3).
	noEpoch int16 = -1
)

// producer is what a log knows of one producer. It is guarded by the log's mutex. What was appended but is not committed decides the
// next sequence number; only what is committed is in a manifest. The uncommitted batches themselves are in the log's pending list.
type producer struct {
	// epoch and lastSeq are those of the last appended batch; inflight counts its uncommitted ones, of any epoch.
	epoch    int16
	lastSeq  int32
	inflight int32
	// lastWrite is the broker's time of the last append, in ms.
	lastWrite int64
	// batches[:n] are the last committed ones of committedEpoch, oldest first.
	committedEpoch int16
	n              uint8
	batches        [producerBatches]ProducerBatch
}

func (p *producer) commit(epoch int16, b ProducerBatch) {
	if epoch != p.committedEpoch {
		p.committedEpoch, p.n = epoch, 0
	}
	if p.n == producerBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = b
	p.n++
}

func batchOf(b record.Batch) ProducerBatch {
	return ProducerBatch{LastSeq: b.LastSequence(), Delta: b.LastOffsetDelta(), LastOffset: b.LastOffset(), MaxTimestamp: b.MaxTimestamp()}
}

// same reports whether the sequence range is that of batch b (P2).
func (x *ProducerBatch) same(first, last int32) bool {
	return x.LastSeq == last && record.SubSequence(x.LastSeq, x.Delta) == first
}

func (p *producer) expired(now int64, after time.Duration) bool {
	return p.inflight == 0 && now-p.lastWrite >= after.Milliseconds()
}

// follows reports whether seq comes after last (P3, P4).
func follows(last, seq int32) bool { return record.AddSequence(last, 1) == seq }

// checkProducerLocked applies P2-P7 to a batch of a producer. It returns the producer, nil when it is not known, and the stored
// batch that this one repeats.
func (l *Log) checkProducerLocked(b record.Batch, origin Origin, now int64) (*producer, *ProducerBatch, error) {
	p := l.producers[b.ProducerID()]
	if p != nil && p.expired(now, l.set.opts.ProducerExpiry) {
		delete(l.producers, b.ProducerID())
		p = nil
	}
	epoch, first := b.ProducerEpoch(), b.BaseSequence()
	if p == nil {
		if epoch < noEpoch {
			return nil, nil, ErrInvalidProducerEpoch
		}
		return nil, nil, nil
	}
	inSequence := epoch == p.epoch && follows(p.lastSeq, first)
	if inSequence {
		return p, nil, nil
	}
	if epoch == p.epoch {
		if dup := l.duplicateLocked(p, b); dup != nil {
			return p, dup, nil
		}
	}
	switch {
	case epoch < p.epoch:
		return p, nil, ErrInvalidProducerEpoch
	case origin != OriginClient || p.epoch == noEpoch:
		return p, nil, nil
	case epoch > p.epoch && first == 0:
		return p, nil, nil
	}
	return p, nil, ErrOutOfOrderSequence
}

// duplicateLocked looks for b among the last batches of its producer, uncommitted ones included (P2).
func (l *Log) duplicateLocked(p *producer, b record.Batch) *ProducerBatch {
	id, first, last := b.ProducerID(), b.BaseSequence(), b.LastSequence()
	seen := 0
	for i := len(l.pending) - 1; i >= l.pendingHead && seen < producerBatches && seen < int(p.inflight); i-- {
		a := &l.pending[i]
		if a.producer != id {
			continue
		}
		if a.producerEpoch != p.epoch {
			return nil
		}
		if a.batch.same(first, last) {
			return &a.batch
		}
		seen++
	}
	if p.committedEpoch != p.epoch {
		return nil
	}
	for i := int(p.n) - 1; i >= 0 && seen < producerBatches; i-- {
		if p.batches[i].same(first, last) {
			return &p.batches[i]
		}
		seen++
	}
	return nil
}

// replayProducer applies a recovered batch. It is used before the log is shared.
func (l *Log) replayProducer(b record.Batch, now int64) {
	id := b.ProducerID()
	if id < 0 || l.set.opts.Faults.ForgetProducers {
		return
	}
	p := l.producers[id]
	if p == nil {
		p = l.addProducerLocked(id)
	}
	x := batchOf(b)
	p.epoch, p.lastSeq, p.lastWrite = b.ProducerEpoch(), x.LastSeq, now
	p.commit(p.epoch, x)
}

func (l *Log) addProducerLocked(id int64) *producer {
	if l.producers == nil {
		l.producers = map[int64]*producer{}
	}
	p := &producer{epoch: noEpoch, committedEpoch: noEpoch}
	l.producers[id] = p
	return p
}

// expireLocked forgets producers that have not written for long (P8).
func (l *Log) expireLocked(now int64) {
	for id, p := range l.producers {
		if p.expired(now, l.set.opts.ProducerExpiry) {
			delete(l.producers, id)
		}
	}
	if len(l.producers) == 0 {
		l.producers = nil
	}
}

// producersLocked returns the committed state of all producers, by id.
func (l *Log) producersLocked() []Producer {
	if len(l.producers) == 0 {
		return nil
	}
	out := make([]Producer, 0, len(l.producers))
	for id, p := range l.producers {
		if p.n > 0 {
			out = append(out, Producer{ID: id, Epoch: p.committedEpoch, LastWrite: p.lastWrite, Batches: slices.Clone(p.batches[:p.n])})
		}
	}
	slices.SortFunc(out, func(a, b Producer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// loadProducers is the reverse of producersLocked. It is used before the log is shared.
func (l *Log) loadProducers(in []Producer) {
	for _, x := range in {
		p := l.addProducerLocked(x.ID)
		p.epoch, p.committedEpoch, p.lastWrite = x.Epoch, x.Epoch, x.LastWrite
		p.lastSeq = x.Batches[len(x.Batches)-1].LastSeq
		p.n = uint8(copy(p.batches[:], x.Batches))
	}
}
