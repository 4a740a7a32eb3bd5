package partition

import (
	"cmp"
	"math"
	"slices"
)

const minTimestamp = math.MinInt64

// mergeEpochs returns the history of both lists, oldest first: of an epoch known twice a's entry counts, and of epochs that begin at
// the same offset only the newest, because the others hold no record.
func mergeEpochs(a, b []Epoch) []Epoch {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(x, y Epoch) int { return cmp.Compare(x.Epoch, y.Epoch) })
	var out []Epoch
	for _, e := range all {
		if n := len(out); n > 0 && out[n-1].Epoch == e.Epoch {
			continue
		}
		for len(out) > 0 && out[len(out)-1].Start >= e.Start {
			out = out[:len(out)-1]
		}
		out = append(out, e)
	}
	return out
}

// trimEpochs drops the epochs that end at or before start and lets the first one that is left begin there, as Kafka does when the log
// start moves.
func trimEpochs(epochs []Epoch, start int64) []Epoch {
	i := 0
	for i+1 < len(epochs) && epochs[i+1].Start <= start {
		i++
	}
	out := slices.Clone(epochs[i:])
	if len(out) > 0 {
		out[0].Start = max(out[0].Start, start)
	}
	return out
}

// EndOffsetForEpoch returns the largest known epoch up to the requested one and the offset at which it ended (E2). The current epoch
// ends at the high watermark: nothing behind it has been seen by anyone. Epochs behind the current one are (-1, -1).
func (l *Log) EndOffsetForEpoch(epoch int32) (foundEpoch int32, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case epoch < 0 || epoch > l.epoch:
		return -1, -1
	case epoch == l.epoch:
		return epoch, l.hw
	}
	next, _ := slices.BinarySearchFunc(l.epochs, epoch, func(e Epoch, want int32) int { return cmp.Compare(e.Epoch, want+1) })
	if next == 0 {
		return epoch, l.epochs[0].Start
	}
	return l.epochs[next-1].Epoch, l.epochs[next].Start
}

// EpochAt returns the leader epoch of the record at offset, or of the next append; -1 below the known history.
func (l *Log) EpochAt(offset int64) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(l.epochs) {
		if e.Start <= offset {
			return e.Epoch
		}
	}
	return -1
}
