package partition

import "context"

// scansMax is how many readers of one log's old data are told apart.
const scansMax = 4

// A scan is a reader that goes through old data: it asks next for what comes after what it got.
type scan struct {
	next int64
	// ahead is how many blocks are read ahead of it: more with each read that comes as expected.
	ahead int32
}

// readAhead begins to load what a reader will ask for next, if it seems to go through the log: the extents behind what it got, and the
// beginning of the next part. The cache says how much memory there is for it.
func (l *Log) readAhead(ctx context.Context, offset, next int64, old oldData) {
	n := min(int(l.noteScan(offset, next)), int(l.set.cache.ahead.Load()))
	if n == 0 {
		return
	}
	i := findExtent(old.behind, next)
	for ; i < len(old.behind) && n > 0; i, n = i+1, n-1 {
		l.set.prefetch(ctx, &old.behind[i], true)
	}
	if n > 0 && len(old.parts) > 0 {
		key, load := l.set.indexOf(l.id, &old.parts[0])
		l.set.cache.prefetch(ctx, key, load, true)
	}
}

// noteScan notes a read and returns how far to read ahead of the reader, in blocks.
func (l *Log) noteScan(offset, next int64) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.scans {
		if s := &l.scans[i]; s.next == offset {
			*s = scan{next: next, ahead: min(max(2*s.ahead, 1), aheadBlocks)}
			return s.ahead
		}
	}
	if len(l.scans) == scansMax {
		l.scans = l.scans[1:]
	}
	l.scans = append(l.scans, scan{next: next})
	return 0
}
