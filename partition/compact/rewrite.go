package compact

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tidemill/tidemill/protocol/record"
)

// empty returns what is left of a batch without records: its header, if that says what nothing else does (C5).
func (r *Round) empty(b record.Batch) (record.Batch, Outcome, error) {
	tail := b.LastOffset()+1 == r.UpperBound
	if !tail && (b.ProducerID() < 0 || r.LastOfProducer == nil || !r.LastOfProducer(b.ProducerID(), b.ProducerEpoch(), b.LastOffset())) {
		return nil, Dropped, nil
	}
	if b.NumRecords() == 0 {
		return b, Kept, nil
	}
	if err := record.CheckCRC(b); err != nil {
		return nil, 0, err
	}
	out := make(record.Batch, record.HeaderSize)
	record.Derive(out, b, record.Derivation{
		Attributes:    b.Attributes() &^ (record.AttrCodec | record.AttrDeleteHorizon),
		BaseTimestamp: noTimestamp,
		MaxTimestamp:  b.MaxTimestamp(),
	})
	return out, Emptied, nil
}

// levels are the compression levels that Kafka repacks with: the defaults of its codecs.
var levels = [...]int{record.Gzip: -1, record.LZ4: 9, record.Zstd: 3}

// rewrite returns a batch like b with the records of the round's runs, which are in data.
func (r *Round) rewrite(b record.Batch, data []byte, d record.Derivation) (record.Batch, error) {
	size := record.HeaderSize
	for _, x := range r.runs {
		size += x.to - x.from
	}
	shift := b.BaseTimestamp() - d.BaseTimestamp
	if shift != 0 {
		size += int(d.NumRecords) * deltaGrowth
	}
	out := make(record.Batch, record.HeaderSize, size)
	for _, x := range r.runs {
		if shift == 0 {
			out = append(out, data[x.from:x.to]...)
		} else {
			out = shiftTimes(out, data[x.from:x.to], shift)
		}
	}
	if len(out) > math.MaxInt32 {
		return nil, fmt.Errorf("batch would have %d bytes: %w", len(out), record.ErrInvalid)
	}
	record.Derive(out, b, d)
	if b.Codec() == record.None {
		return out, nil
	}
	return record.Recompress(out, b.Codec(), levels[b.Codec()], r.Limits)
}

// deltaGrowth is by how much a record usually grows when its time counts from a delete horizon and not from its batch's first one.
const deltaGrowth = 5

// shiftTimes appends the records of a run to dst, with shift added to their timestamp deltas and nothing else changed.
func shiftTimes(dst, run []byte, shift int64) []byte {
	for at := 0; at < len(run); {
		n, body := varint(run, at)
		end := body + int(n)
		delta, rest := varint(run, body+1)
		var b [binary.MaxVarintLen64]byte
		time := binary.PutVarint(b[:], delta+shift)
		dst = binary.AppendVarint(dst, n-int64(rest-body-1)+int64(time))
		dst = append(dst, run[body])
		dst = append(dst, b[:time]...)
		dst = append(dst, run[rest:end]...)
		at = end
	}
	return dst
}
