package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

const (
	// readTogetherMax and readGapMax say which manifests of an object are read by one request.
	readTogetherMax = 8 << 20
	readGapMax      = 64 << 10
)

// opening is a partition on its way into the set.
type opening struct {
	state metadata.PartitionState
	log   *Log
	// grown: the recovered tail is longer than what the manifest covers.
	grown bool
	err   error
}

// Open builds the logs of partitions that this life takes over: from their manifests, and from what recoveries say of the owners'
// untrimmed slots. An owner without recovery has closed itself with everything in manifests (W8). It returns the claims that make the
// partitions ours; their manifests include the recovered tails, so nothing depends on the old lives' logs any more once they are
// accepted: then Claimed puts the logs into the set. Until then no append is admitted.
//
// A damaged partition is left out: the error wraps ErrCorrupt and the claims for the others are good. Any other error leaves the set
// as it was, and Open may be called again, as it may for what a failed claim has left over, with the states of all that
// Unclaimed returns among others: those that are ours by now are put into the set, the others are opened anew or dropped.
func (s *Set) Open(ctx context.Context, states []metadata.PartitionState, recoveries map[wal.Life]wal.Recovery) ([]metadata.Claim, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	var all []*opening
	for _, st := range states {
		if st.Owner != s.opts.Life {
			all = append(all, &opening{state: st})
		}
	}
	if err := s.loadManifests(ctx, all); err != nil {
		return nil, fmt.Errorf("load manifests: %w", err)
	}
	for life, r := range recoveries {
		if err := s.recoverTail(ctx, life, &r, all); err != nil {
			return nil, fmt.Errorf("recover the log of %v: %w", life, err)
		}
	}
	for _, o := range all {
		if o.err == nil && o.log.hw < o.state.Start {
			o.err = corruptf("epoch %d begins at %d, but the log ends at %d", o.state.LeaderEpoch, o.state.Start, o.log.hw)
		}
	}
	if err := s.checkCurrent(ctx, all); err != nil {
		return nil, err
	}
	var damaged []error
	good := slices.DeleteFunc(all, func(o *opening) bool {
		if o.err != nil {
			damaged = append(damaged, fmt.Errorf("open %v: %w", o.state.ID, o.err))
		}
		return o.err != nil
	})
	claims, err := s.claim(ctx, good, states)
	if err != nil {
		return nil, err
	}
	return claims, errors.Join(damaged...)
}

// checkCurrent returns an error if a partition that looks damaged has changed since its opening began. Its owner may have written another
// manifest meanwhile, even one whose log has ended, and deleted what the one before names: then nothing is damaged.
func (s *Set) checkCurrent(ctx context.Context, all []*opening) error {
	began := map[protocol.PartitionID]metadata.PartitionState{}
	var ids []protocol.PartitionID
	for _, o := range all {
		if o.err != nil {
			ids, began[o.state.ID] = append(ids, o.state.ID), o.state
		}
	}
	if len(ids) == 0 {
		return nil
	}
	states, err := s.opts.Manifests.States(ctx, ids)
	if err != nil {
		return fmt.Errorf("look at damaged partitions again: %w", err)
	}
	for _, now := range states {
		if was := began[now.ID]; now.Rev != was.Rev || now.ManifestRev != was.ManifestRev {
			return fmt.Errorf("%v has changed since its opening began: %w", now.ID, metadata.ErrStale)
		}
	}
	if len(states) < len(ids) {
		return fmt.Errorf("a damaged partition was deleted meanwhile: %w", metadata.ErrStale)
	}
	return nil
}

// claim raises leader epochs and writes the manifests of logs that grew.
func (s *Set) claim(ctx context.Context, all []*opening, states []metadata.PartitionState) ([]metadata.Claim, error) {
	var snapshots []*snapshot
	for _, o := range all {
		l := o.log
		l.epoch = o.state.LeaderEpoch + 1
		if s.opts.Faults.SameEpoch {
			l.epoch--
		}
		l.end = l.hw
		l.epochs = mergeEpochs(l.epochs, []Epoch{{Epoch: l.epoch, Life: s.life, Start: l.hw}})
		if o.grown {
			snapshots = append(snapshots, l.snapshot(0))
		}
	}
	objects, err := s.writeManifests(ctx, snapshots)
	defer func() {
		for _, o := range objects {
			s.objects.abandon(o.id(), s.opts.Now())
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStorage, err)
	}
	heads := s.dropUnclaimed(states)
	for _, o := range all {
		o.log.refer()
	}
	pointers := make(map[*Log]*metadata.ManifestPointer, len(snapshots))
	for _, x := range snapshots {
		x.log.expectHead(x)
		x.log.manifestVersion = x.version
		pointers[x.log] = &x.pointer
	}
	claims := make([]metadata.Claim, 0, len(all))
	for _, o := range all {
		l := o.log
		c := metadata.Claim{
			ID: o.state.ID, Rev: o.state.Rev, ManifestRev: o.state.ManifestRev, OldLife: o.state.Owner,
			LeaderEpoch: l.epoch, Start: l.hw, Manifest: pointers[l],
		}
		for _, e := range l.epochs {
			c.History = append(c.History, metadata.EpochStart{Epoch: e.Epoch, Start: e.Start, Life: s.lives.life(e.Life)})
		}
		claims = append(claims, c)
		l.heads = slices.Concat(heads[l.id], l.heads) // references that dropUnclaimed left to it
		delete(heads, l.id)
		s.unclaimed = append(s.unclaimed, l)
	}
	for _, left := range heads {
		s.unsettled = append(s.unsettled, left...)
	}
	return claims, nil
}

// Claimed puts the logs of the last Open into the set: metadata has accepted their claims.
func (s *Set) Claimed(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	for _, l := range s.unclaimed {
		s.install(l)
	}
	s.unclaimed = nil
	return nil
}

// Unclaimed returns the partitions that Open opened and Claimed was not called for.
func (s *Set) Unclaimed(ctx context.Context) ([]protocol.PartitionID, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	var ids []protocol.PartitionID
	for _, l := range s.unclaimed {
		ids = append(ids, l.id)
	}
	return ids, nil
}

// dropUnclaimed looks at the logs that an Open before made. Those that metadata says are ours go into the set; of the others a claim
// failed, so that they may be somebody else's: they end. A claim of unknown outcome may be applied yet, so what it would make a partition's
// manifest is not let go: those references are returned, for the log that follows.
func (s *Set) dropUnclaimed(states []metadata.PartitionState) map[protocol.PartitionID][]reference {
	ours := map[protocol.PartitionID]int32{} // with the leader epoch: it may have left since, and come back
	for _, st := range states {
		if st.Owner == s.opts.Life {
			ours[st.ID] = st.LeaderEpoch
		}
	}
	heads := map[protocol.PartitionID][]reference{}
	for _, l := range s.unclaimed {
		if epoch, ok := ours[l.id]; ok && epoch == l.epoch {
			s.install(l)
			continue
		}
		l.mu.Lock()
		l.ended, l.gone = ErrUnknownPartition, true
		heads[l.id] = l.heads
		l.heads = nil
		l.letGoLocked()
		l.mu.Unlock()
	}
	s.unclaimed = nil
	return heads
}

// refer counts the references of a log that was opened.
func (l *Log) refer() { l.set.objects.retainShared(l.referencesLocked()) }

// loadManifests builds each partition's log from its manifest, reading neighbours in an object together.
func (s *Set) loadManifests(ctx context.Context, all []*opening) error {
	var stored []*opening
	for _, o := range all {
		o.log = &Log{set: s, id: o.state.ID, epochs: s.historyOf(o.state), policy: s.opts.Policy(o.state.ID.Topic)}
		if o.state.Manifest != nil {
			stored = append(stored, o)
		}
	}
	slices.SortFunc(stored, func(a, b *opening) int {
		x, y := a.state.Manifest, b.state.Manifest
		return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.Pos, y.Pos))
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.opts.Loads)
	for len(stored) > 0 {
		n := together(stored)
		group := stored[:n]
		stored = stored[n:]
		g.Go(func() error { return s.loadGroup(ctx, group) })
	}
	return g.Wait()
}

// together returns how many of the openings' manifests, sorted by place, one request should read.
func together(stored []*opening) int {
	first := stored[0].state.Manifest
	end := first.Pos + int64(first.Len)
	for i, o := range stored[1:] {
		m := o.state.Manifest
		if m.Key != first.Key || m.Pos-end > readGapMax || m.Pos+int64(m.Len)-first.Pos > readTogetherMax {
			return i + 1
		}
		end = max(end, m.Pos+int64(m.Len))
	}
	return len(stored)
}

func (s *Set) loadGroup(ctx context.Context, group []*opening) error {
	first, last := group[0].state.Manifest, group[len(group)-1].state.Manifest
	for range 2 { // damage must show twice
		buf := make([]byte, last.Pos+int64(last.Len)-first.Pos)
		ctx, cancel := context.WithTimeout(ctx, s.opts.LoadTimeout)
		err := s.opts.Store.ReadAt(ctx, first.Key, buf, first.Pos)
		cancel()
		if errors.Is(err, objectstore.ErrNotFound) { // lost, which is no reason not to serve the others
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		err = wrapStore(err, first.Key)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		bad := false
		for _, o := range group {
			m := o.state.Manifest
			o.err = err
			if err == nil {
				o.err = o.load(buf[m.Pos-first.Pos:][:m.Len])
			}
			bad = bad || o.err != nil
		}
		if !bad {
			return nil
		}
	}
	return nil
}

func wrapStore(err error, key string) error {
	if err == nil {
		return nil
	}
	return storeError(fmt.Errorf("read %s: %w", key, err))
}

// load fills the log from its manifest's bytes.
func (o *opening) load(b []byte) error {
	p := o.state.Manifest
	if got := crc32c.Sum(b); got != p.CRC {
		return corruptf("manifest in %s at %d has checksum %08x, want %08x", p.Key, p.Pos, got, p.CRC)
	}
	m, err := DecodeManifest(b)
	if err != nil {
		return fmt.Errorf("manifest in %s at %d: %w", p.Key, p.Pos, err)
	}
	if m.Partition != o.state.ID || m.EndOffset != p.EndOffset || m.Version != p.Version {
		return corruptf("manifest in %s at %d is version %d of %v up to %d", p.Key, p.Pos, m.Version, m.Partition, m.EndOffset)
	}
	l, ids := o.log, o.log.set.lives.adopt(m.Lives)
	for i := range m.Epochs {
		m.Epochs[i].Life = ids[m.Epochs[i].Life]
	}
	for i := range m.Parts {
		m.Parts[i].Life = ids[m.Parts[i].Life]
		l.size += m.Parts[i].Bytes
	}
	for i := range m.Extents {
		m.Extents[i].Life = ids[m.Extents[i].Life]
		l.size += int64(m.Extents[i].Len)
	}
	l.logStart, l.hw, l.manifestVersion = m.LogStart, m.EndOffset, m.Version
	l.parts, l.recent, l.rolls, l.compactedTo, l.aborted = m.Parts, m.Extents, m.Rolls, m.CompactedTo, m.Aborted
	if kind, life, seq, ok := ParseObjectKey(p.Key); ok && kind == KindManifest {
		l.heads = []reference{{objectID: objectID{kind, o.log.set.lives.id(life), seq}}}
	}
	l.epochs = trimEpochs(mergeEpochs(l.epochs, m.Epochs), m.LogStart)
	if !l.set.opts.Faults.ForgetProducers {
		l.loadProducers(m.Producers)
	}
	if m.CoordinatorOffset >= 0 {
		l.coordinator = &coordinatorState{offset: m.CoordinatorOffset, blob: m.Coordinator}
	}
	return nil
}

func (s *Set) historyOf(st metadata.PartitionState) []Epoch {
	var out []Epoch
	for _, h := range st.History {
		out = append(out, Epoch{Epoch: h.Epoch, Start: h.Start, Life: s.lives.id(h.Life)})
	}
	return mergeEpochs(out, []Epoch{{Epoch: st.LeaderEpoch, Start: st.Start, Life: s.lives.id(st.Owner)}})
}
