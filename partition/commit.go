package partition

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
)

// commitHeads makes new manifests of the logs, as they are now, durable and theirs.
func (s *Set) commitHeads(ctx context.Context, logs []*Log) error {
	logs, err := s.settle(ctx, logs)
	if err != nil {
		return err
	}
	snapshots := make([]*snapshot, 0, len(logs))
	for _, l := range logs {
		snapshots = append(snapshots, l.snapshot(0))
	}
	return s.commitSnapshots(ctx, snapshots)
}

func (s *Set) commitSnapshots(ctx context.Context, snapshots []*snapshot) error {
	snapshots = slices.DeleteFunc(snapshots, func(x *snapshot) bool { return x == nil })
	objects, err := s.writeManifests(ctx, snapshots)
	defer func() {
		for _, o := range objects {
			s.objects.abandon(o.id(), s.opts.Now())
		}
	}()
	if err != nil {
		return err
	}
	for _, x := range snapshots {
		x.log.expectHead(x)
	}
	return s.commitPointers(ctx, snapshots)
}

// commitPointers lets metadata name manifests that are stored, and their logs adopt them. What has an unknown outcome is kept: see settle.
func (s *Set) commitPointers(ctx context.Context, snapshots []*snapshot) error {
	if len(snapshots) == 0 {
		return nil
	}
	updates := make([]metadata.ManifestUpdate, 0, len(snapshots))
	for _, x := range snapshots {
		updates = append(updates, metadata.ManifestUpdate{ID: x.log.id, Pointer: x.pointer, PrevVersion: x.prevVersion})
	}
	if err := s.opts.Manifests.CommitManifests(ctx, s.opts.Life, updates); err != nil {
		for _, x := range snapshots {
			x.log.mu.Lock()
			x.log.attempt = x
			x.log.markLocked() // a log that is not written to would else never be settled
			x.log.mu.Unlock()
		}
		return fmt.Errorf("commit %d manifests: %w", len(updates), err)
	}
	s.metrics.manifestCommits.Add(float64(len(updates)))
	for _, x := range snapshots {
		x.log.adopt(x)
	}
	return nil
}

// expectHead notes that metadata may name the snapshot's manifest from now on.
func (l *Log) expectHead(x *snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return // what it referred to was let go
	}
	l.heads = append(l.heads, x.head)
	l.set.objects.retain(x.head)
}

// dropHead takes expectHead back: metadata has refused the snapshot's manifest, and will not name it any more.
func (l *Log) dropHead(x *snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.heads, x.head); i >= 0 {
		l.heads = slices.Delete(l.heads, i, i+1)
		l.set.objects.release([]reference{x.head}, l.set.opts.Now())
	}
}

// writeManifests puts the snapshots' manifests into as few objects as they fit in and fills in their pointers. It returns the objects
// that were begun.
func (s *Set) writeManifests(ctx context.Context, snapshots []*snapshot) (all []*manifestObject, err error) {
	var o *manifestObject
	for i, x := range snapshots {
		if o == nil {
			o = s.newManifestObject()
			all = append(all, o)
		}
		if err := o.add(x); err != nil {
			return all, err
		}
		if len(o.body) < objectMax && i < len(snapshots)-1 {
			continue
		}
		key, body := o.finish()
		if err := s.putBody(ctx, key, objectstore.Body{Pieces: [][]byte{body}, Size: int64(len(body)), CRC32C: crc32c.Sum(body)}); err != nil {
			return all, fmt.Errorf("put %s: %w", key, err)
		}
		s.metrics.manifests.Add(float64(len(o.snapshots)))
		s.metrics.manifestBytes.Add(float64(len(body)))
		o.body = nil // it is stored
		o = nil
	}
	return all, nil
}

// settle finds out about the commits of logs whose last one had an unknown outcome. One that was applied is adopted; one that was not may
// be applied yet, so it is made again, the very same, before another is. A log whose move had an unknown outcome leaves if it has moved. It returns the logs that are still ours: one that metadata does
// not know any more is being deleted, and its records need no manifest.
func (s *Set) settle(ctx context.Context, logs []*Log) ([]*Log, error) {
	if !slices.ContainsFunc(logs, func(l *Log) bool { return l.unsettled() != nil || l.moveUnknown.Load() }) {
		return logs, nil
	}
	states, err := s.opts.Manifests.Partitions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read manifest heads: %w", err)
	}
	heads := make(map[protocol.PartitionID]metadata.PartitionState, len(states))
	for _, st := range states {
		heads[st.ID] = st
	}
	var ours []*Log
	var again []*snapshot
	for _, l := range logs {
		x := l.unsettled()
		st, known := heads[l.id]
		switch {
		case known && l.moveUnknown.Load() && (st.Owner != s.opts.Life || st.LeaderEpoch != l.epoch): // it may be back
			s.forsake(l)
			continue
		case x == nil: // also of a move that may be applied yet: it compares the manifest that is about to be replaced
		case !known:
			continue
		case st.Owner != s.opts.Life:
			return nil, fmt.Errorf("%w: %v is owned by %v", ErrNotLeader, l.id, st.Owner)
		case st.Manifest != nil && *st.Manifest == x.pointer:
			l.adopt(x)
		default:
			again = append(again, x)
		}
		ours = append(ours, l)
	}
	return ours, s.commitPointers(ctx, again)
}

// unsettled returns the log's last commit if its outcome is unknown.
func (l *Log) unsettled() *snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempt
}
