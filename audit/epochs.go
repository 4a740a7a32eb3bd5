package audit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
)

// epochsOf joins the history of leader epochs in metadata and that of the manifest, which must not contradict each other: an epoch has
// one life, one start, but for the first one that is left when the log start moves, and starts ascend with epochs. Of epochs that begin
// at the same offset only the newest is in the result, the others hold no record. m is nil before the first manifest.
func epochsOf(st *metadata.PartitionState, m *partition.Manifest) ([]metadata.EpochStart, error) {
	now := metadata.EpochStart{Epoch: st.LeaderEpoch, Start: st.Start, Life: st.Owner}
	if n := len(st.History); n > 0 && st.History[n-1] != now {
		return nil, fmt.Errorf("leader epoch %d of %v from %d is not the last of its history, which is %d of %v from %d",
			now.Epoch, now.Life, now.Start, st.History[n-1].Epoch, st.History[n-1].Life, st.History[n-1].Start)
	}
	all := slices.Clone(st.History)
	if len(all) == 0 {
		all = append(all, now)
	}
	var logStart int64
	if m != nil {
		logStart = m.LogStart
		for _, e := range m.Epochs {
			all = append(all, metadata.EpochStart{Epoch: e.Epoch, Start: e.Start, Life: m.Lives[e.Life]})
		}
	}
	slices.SortStableFunc(all, func(a, b metadata.EpochStart) int { return cmp.Compare(a.Epoch, b.Epoch) })
	var out []metadata.EpochStart
	for _, e := range all {
		if n := len(out); n > 0 {
			last := out[n-1]
			switch {
			case last.Epoch == e.Epoch && (last.Life != e.Life || max(last.Start, logStart) != max(e.Start, logStart)):
				return nil, fmt.Errorf("leader epoch %d is of %v from %d in metadata, of %v from %d in the manifest", e.Epoch, last.Life, last.Start, e.Life, e.Start)
			case last.Epoch == e.Epoch:
				continue
			case last.Start > e.Start:
				return nil, fmt.Errorf("leader epoch %d begins at %d, epoch %d before it at %d", e.Epoch, e.Start, last.Epoch, last.Start)
			case last.Start == e.Start:
				out = out[:n-1]
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// epochAt returns the leader epoch of an offset. exact is false for an offset below the history: then it is the most that it may be.
func epochAt(epochs []metadata.EpochStart, offset int64) (epoch int32, exact bool) {
	for _, e := range slices.Backward(epochs) {
		if e.Start <= offset {
			return e.Epoch, true
		}
	}
	if len(epochs) > 0 {
		return epochs[0].Epoch, false
	}
	return 0, false
}
