// Package compact removes records whose key has a newer one (C3-C10). It works on batches, one after the other, in memory, and
// knows nothing of where they lie: no I/O, no clock, no goroutine.
//
// A round over a range of a log goes twice over its batches. A KeyMap first takes the keys of the part that is not clean yet, up
// to its memory; then a Round cleans every batch from the start of the log on, up to the map's End.
//
// Invariants: offsets, order, timestamps, headers and attributes of retained records stay as they are, and a batch that is
// retained in whatever form covers the offsets that it did. What the map did not see is retained.
package compact

import "github.com/tidemill/tidemill/protocol/record"

// A Round cleans the batches of a range. It is owned by one goroutine, and its fields stay as they are while it lasts.
type Round struct {
	Keys *KeyMap
	// Now is the time of the round, and DeleteRetentionMs how long a tombstone, or the marker of a transaction without data, is
	// retained after the first round that found it (delete.retention.ms). Both are in ms.
	Now, DeleteRetentionMs int64
	// UpperBound is the offset after the range: the batch that ends there keeps its header, so that the last offset of the range
	// can always be read (C5 b).
	UpperBound int64
	// LastOfProducer reports whether a batch that ends at lastOffset holds the last sequence of a producer that is still
	// remembered, or is the last marker of one without data (C5 a). Nil is never.
	LastOfProducer func(producerID int64, epoch int16, lastOffset int64) bool
	// Aborted are the aborted transactions of the range, sorted by their first offset (C6). Their records are discarded wherever
	// they are, also behind the end of the map.
	Aborted []AbortedTxn
	Limits  record.Limits

	started bool
	txns    txns
	// runs are the stretches of retained records of the batch at hand.
	runs   []run
	window window
}

// An Outcome is what became of a batch.
type Outcome uint8

const (
	// Kept means that the batch is as it came.
	Kept Outcome = iota
	// Rewritten means that it has fewer records, or a delete horizon that it did not have.
	Rewritten
	// Emptied means that it is a header without records.
	Emptied
	// Dropped means that nothing is left of it.
	Dropped
)

// Clean returns what is to be retained of b. It is called for every batch of the range in the order of offsets, from the log start
// on. Kept returns b itself, and takes no memory if b is not compressed; Dropped returns nil; the others return a batch in memory
// of its own. Errors are ErrInvalid, ErrCorrupt, ErrCodec and ErrBomb of package record: b is unreadable, and to be kept. The
// checksum is looked at only where a new one would hide that it was wrong.
func (r *Round) Clean(b record.Batch) (out record.Batch, what Outcome, err error) {
	if !r.started {
		r.started, r.txns = true, txns{aborted: r.Aborted}
	}
	if err := check(b); err != nil {
		return nil, 0, err
	}
	v, err := r.judge(b)
	if err != nil {
		return nil, 0, err
	}
	if v.retained == 0 {
		return r.empty(b)
	}
	horizon, ok := r.horizon(b)
	stamp := v.stamp && ok
	if v.retained == b.NumRecords() && !stamp {
		return b, Kept, nil
	}
	if err := record.CheckCRC(b); err != nil {
		return nil, 0, err
	}
	d := record.Derivation{
		Attributes:    b.Attributes() &^ record.AttrCodec,
		BaseTimestamp: b.BaseTimestamp(),
		MaxTimestamp:  v.maxTimestamp,
		NumRecords:    v.retained,
	}
	if stamp {
		d.Attributes |= record.AttrDeleteHorizon
		d.BaseTimestamp = horizon
	}
	out, err = r.rewrite(b, v.data, d)
	return out, Rewritten, err
}

// StillAborted returns the transactions of Aborted that are to be known after the round, sorted by their first offset: those of
// which a batch was seen, also if it was discarded, and those that the round did not come to the end of. Of the others there is
// nothing left (C6).
func (r *Round) StillAborted() []AbortedTxn {
	if !r.started {
		return r.Aborted
	}
	return r.txns.left()
}

// A verdict is what is to become of the records of a batch.
type verdict struct {
	// data are the records, unpacked, and retained is the number of those to retain, which are in the round's runs.
	data     []byte
	retained int32
	// stamp asks for a delete horizon: a tombstone is retained, or the marker of a transaction without data.
	stamp bool
	// maxTimestamp is of the retained records.
	maxTimestamp int64
}

// noTimestamp is the base timestamp of a batch without records, and what the largest of none would be.
const noTimestamp = -1

func (r *Round) judge(b record.Batch) (verdict, error) {
	if !b.IsControl() && r.txns.discards(b) {
		return verdict{}, nil
	}
	data, err := unpack(b, r.Limits)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{data: data}
	if b.IsControl() {
		if v.stamp, err = r.txns.ends(b, data); err != nil {
			return verdict{}, err
		}
		if at, ok := b.DeleteHorizon(); v.stamp && ok && at <= r.Now {
			return verdict{}, nil
		}
	}
	err = r.sift(b, &v)
	return v, err
}

// A run is a stretch of records that are retained.
type run struct{ from, to int }

// sift goes through the records of b and fills in the rest of the verdict, and the round's runs.
func (r *Round) sift(b record.Batch, v *verdict) error {
	at, hasHorizon := b.DeleteHorizon()
	tombstonesGo := hasHorizon && at <= r.Now
	v.maxTimestamp = noTimestamp
	r.runs = r.runs[:0]
	r.window.scan.reset(b, v.data)
	from, to := 0, 0
	for {
		items, err := r.window.next(b)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			break
		}
		r.Keys.fetch(items)
		for i := range items {
			x := &items[i]
			if !b.IsControl() && !r.retains(x, tombstonesGo) {
				if to > from {
					r.runs = append(r.runs, run{from, to})
				}
				from, to = x.end, x.end
				continue
			}
			to = x.end
			v.retained++
			v.stamp = v.stamp || x.tombstone
			v.maxTimestamp = max(v.maxTimestamp, x.timestamp)
		}
	}
	if to > from {
		r.runs = append(r.runs, run{from, to})
	}
	if b.IsLogAppendTime() {
		v.maxTimestamp = b.MaxTimestamp()
	}
	return nil
}

// retains reports whether a record stays (C3, C4).
func (r *Round) retains(x *item, tombstonesGo bool) bool {
	if x.offset >= r.Keys.End() {
		return true
	}
	if x.null || x.tombstone && tombstonesGo {
		return false
	}
	return !r.Keys.superseded(x.hash, x.offset)
}

// horizon returns the delete horizon for a batch without one. There is none if it would be later than any time.
func (r *Round) horizon(b record.Batch) (int64, bool) {
	if _, ok := b.DeleteHorizon(); ok {
		return 0, false
	}
	at := r.Now + r.DeleteRetentionMs
	return at, at >= 0
}
