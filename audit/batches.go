package audit

import (
	"fmt"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol/record"
)

// wrong is what is wrong with data, and of which class it is.
type wrong struct {
	class   Class
	message string
}

func wrongf(class Class, format string, args ...any) *wrong {
	return &wrong{class, fmt.Sprintf(format, args...)}
}

// batchRun is whole batches back to back, and what is said of them elsewhere.
type batchRun struct {
	partition.Extent
	// epochs are the partition's; nil: any will do.
	epochs []metadata.EpochStart
	// sum: Extent.Sum is known.
	sum bool
}

// check holds the batches to their own checksums, to the offsets, the largest timestamp and the sum of the extent, and to the leader
// epochs. It returns how many there are.
func (r *batchRun) check(data []byte) (n int64, w *wrong) {
	next, sum, newest := r.Base, uint64(0), partition.NoTimestamp
	epoch := int32(-1)
	for rest := data; len(rest) > 0; n++ {
		b, more, err := record.Next(rest)
		if err != nil || b == nil {
			return n, wrongf(Damaged, "no whole batch in the last %d bytes, at offset %d", len(rest), next)
		}
		if w := r.checkBatch(b, next); w != nil {
			return n, w
		}
		if b.PartitionLeaderEpoch() < epoch {
			return n, wrongf(Epochs, "batch %d-%d of leader epoch %d follows one of %d", b.BaseOffset(), b.LastOffset(), b.PartitionLeaderEpoch(), epoch)
		}
		epoch = b.PartitionLeaderEpoch()
		if b.NumRecords() > 0 {
			newest = max(newest, b.MaxTimestamp())
		}
		sum += partition.BatchSum(b)
		next, rest = b.LastOffset()+1, more
	}
	switch {
	case next != r.Last+1:
		return n, wrongf(Offsets, "the batches end at offset %d, want %d", next-1, r.Last)
	case newest != r.MaxTimestamp:
		return n, wrongf(Mismatch, "the largest timestamp is %d, want %d", newest, r.MaxTimestamp)
	case r.sum && sum != r.Sum:
		return n, wrongf(Mismatch, "the sum of the batches is %016x, want %016x", sum, r.Sum)
	}
	return n, nil
}

// checkBatch checks one batch that should begin at next, or behind it where batches may be missing.
func (r *batchRun) checkBatch(b record.Batch, next int64) *wrong {
	base, last := b.BaseOffset(), b.LastOffset()
	if err := record.CheckCRC(b); err != nil {
		return wrongf(Damaged, "batch at offset %d: %v", base, err)
	}
	records, span := int64(b.NumRecords()), int64(b.LastOffsetDelta())+1
	_, horizon := b.DeleteHorizon()
	switch {
	case base < next || base > next && !r.Sparse || last < base || last > r.Last:
		return wrongf(Offsets, "batch of offsets %d-%d where %d should come, in %d-%d", base, last, next, r.Base, r.Last)
	case records < 0 || records > span || records < span && !r.Sparse:
		return wrongf(Mismatch, "batch %d-%d says that it has %d records", base, last, records)
	case horizon && !r.Sparse:
		return wrongf(Mismatch, "batch %d-%d has a delete horizon where compaction has not been", base, last)
	case records == 0 && len(b) != record.HeaderSize || records > 0 && len(b) == record.HeaderSize || b.Codec() > record.Zstd:
		return wrongf(Mismatch, "batch %d-%d of %d bytes with %d records and codec %d", base, last, len(b), records, b.Codec())
	}
	if want, exact := epochAt(r.epochs, base); r.epochs != nil && (exact && b.PartitionLeaderEpoch() != want || b.PartitionLeaderEpoch() > want) {
		return wrongf(Epochs, "batch %d-%d has leader epoch %d, the history says %d", base, last, b.PartitionLeaderEpoch(), want)
	}
	return nil
}
