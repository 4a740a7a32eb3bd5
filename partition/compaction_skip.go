package partition

import (
	"github.com/tidemill/tidemill/protocol/record"
)

// A survey counts, while the keys of what is dirty are mapped, the records of each block that are the newest of their keys. Of a block
// that has none left, nothing would stay: it need not be read again.
type survey struct {
	extents []Extent
	live    []int32
	// kept are blocks that hold something which may stay for another reason.
	kept []bool
	// sums are those of the batches that were seen.
	sums []uint64
}

func newSurvey(extents []Extent) *survey {
	n := len(extents)
	return &survey{extents: extents, live: make([]int32, n), kept: make([]bool, n), sums: make([]uint64, n)}
}

// moved is compact.KeyMap's: the record at offset is the newest of its key now, and the one at old no more.
func (v *survey) moved(old, offset int64) {
	v.live[findExtent(v.extents, offset)]++
	if i := findExtent(v.extents, old); old >= v.extents[0].Base {
		v.live[i]--
	}
}

// see takes note of a batch. What belongs to transactions, or holds a producer's last sequence, has rules of its own (C5, C6).
func (v *survey) see(b record.Batch, c *cleaning) {
	i := findExtent(v.extents, b.BaseOffset())
	v.sums[i] += batchSum(b)
	last, known := c.producers[b.ProducerID()]
	v.kept[i] = v.kept[i] || b.IsControl() || b.IsTransactional() || known && last == b.LastOffset()
}

// dead reports whether nothing of a block would stay. The block was read whole, all of it is dirty and before the end of the round, and
// it lies in one roll.
func (v *survey) dead(i int, c *cleaning) bool {
	e := &v.extents[i]
	return v.live[i] == 0 && !v.kept[i] && v.sums[i] == e.Sum && e.Base >= c.from && e.Last+1 < c.upper &&
		findRoll(c.rolls, e.Base) == findRoll(c.rolls, e.Last)
}

// skip drops the dead blocks from extents, which end with those of the survey, and keeps the books as if they had been read.
func (v *survey) skip(extents []Extent, c *cleaning) []Extent {
	first := len(extents) - len(v.extents)
	out := extents[:first:first]
	for i, e := range v.extents {
		if !v.dead(i, c) {
			out = append(out, e)
			continue
		}
		c.seen += e.Sum
		c.removed[c.rolls[findRoll(c.rolls, e.Base)].Base] += int64(e.Len)
		c.log.set.metrics.compactedBytes.Add(float64(e.Len))
		c.log.set.metrics.cleanedBytes.Add(float64(e.Len))
	}
	return out
}
