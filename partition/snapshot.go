package partition

import (
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

// objectMax is the size at which a manifest object is full. One larger manifest still gets an object.
const objectMax = 8 << 20

// A snapshot is one log's next manifest and what the log adopts once metadata has accepted it.
type snapshot struct {
	log         *Log
	prevVersion int64
	version     int64
	logStart    int64
	compactedTo int64
	end         int64
	parts       []Part
	// extents lie in slots, behind the parts.
	extents     []Extent
	rolls       []Roll
	aborted     []AbortedTxn
	epochs      []Epoch
	producers   []Producer
	coordinator *coordinatorState
	// retired is how many of the log's retired objects the manifest does without.
	retired int
	pointer metadata.ManifestPointer
	head    reference
}

// snapshot takes the log's committed state, nil if it is gone. A logStart above the present one is that of the manifest (M7).
func (l *Log) snapshot(logStart int64) *snapshot {
	coordinator := l.coordinatorNow()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return nil
	}
	l.expireLocked(l.set.opts.Now().UnixMilli())
	l.releaseLocked()
	if coordinator == nil || coordinator.offset > l.hw || l.coordinator != nil && coordinator.offset < l.coordinator.offset {
		coordinator = l.coordinator
	}
	start := max(l.logStart, logStart)
	part, first := findPart(l.parts, start), max(l.unwrittenLocked(), findExtent(l.recent, start))
	return &snapshot{
		log: l, prevVersion: l.manifestVersion, version: l.manifestVersion + 1, logStart: start, end: l.hw,
		compactedTo: l.compactedTo, parts: l.parts[part:len(l.parts):len(l.parts)], extents: slices.Clone(l.recent[first:]),
		rolls: slices.Clone(trimRolls(l.rolls, start)), aborted: l.aborted, epochs: trimEpochs(l.epochs, start),
		producers: l.producersLocked(), coordinator: coordinator, retired: len(l.retired),
	}
}

// coordinatorNow asks the hook, without locks and before the log is looked at: so the log is never behind the coordinator.
func (l *Log) coordinatorNow() *coordinatorState {
	l.mu.Lock()
	moving := l.moving != nil
	l.mu.Unlock()
	if l.set.opts.Coordinator == nil || moving { // what it has appended waits for the end of the move: see HandOver
		return nil
	}
	offset, blob, ok := l.set.opts.Coordinator(l.id)
	if !ok {
		return nil
	}
	return &coordinatorState{offset: offset, blob: blob}
}

// releaseLocked gives back memory that an idle log does not need.
func (l *Log) releaseLocked() {
	if l.pendingHead == len(l.pending) {
		l.pending, l.pendingHead = nil, 0
	}
	if len(l.duplicates) == 0 {
		l.duplicates = nil
	}
}

// adopt makes an accepted snapshot the log's own. The caller holds Set.ckpt.
func (l *Log) adopt(s *snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return // it refers to nothing any more
	}
	l.manifestVersion, l.attempt = s.version, nil
	l.coordinator = s.coordinator
	if s.logStart > l.logStart {
		l.rolls = slices.Clone(trimRolls(l.rolls, s.logStart))
		l.logStart, l.compactedTo = s.logStart, max(l.compactedTo, s.logStart)
	}
	l.epochs = trimEpochs(l.epochs, l.logStart)
	later := len(l.retired)
	l.replacePartsLocked(l.parts[findPart(l.parts, l.logStart):])
	l.dropRecentLocked(findExtent(l.recent, l.logStart))
	if n := l.unwrittenLocked(); len(s.extents) == 0 || n < len(l.recent) && l.recent[n].Base <= s.extents[0].Base {
		l.trimRecentLocked() // else some was rewritten since the snapshot, and the accepted manifest names where it was before
	}
	// What the log start has passed is in no manifest either, as the accepted one begins there.
	gone := slices.Concat(l.retired[:s.retired], l.retired[later:])
	l.retired = slices.Clone(l.retired[s.retired:later])
	if n := len(l.heads); n > 1 {
		gone = append(gone, l.heads[:n-1]...)
		l.heads = slices.Clone(l.heads[n-1:])
	}
	l.set.objects.release(gone, l.set.opts.Now())
}

// replacePartsLocked lets the log refer to these parts. What it referred to before is retired: the manifest in storage still does.
func (l *Log) replacePartsLocked(parts []Part) {
	old := l.parts
	head := 0
	for head < min(len(old), len(parts)) && old[head] == parts[head] {
		head++
	}
	tail := 0
	for tail < min(len(old), len(parts))-head && old[len(old)-1-tail] == parts[len(parts)-1-tail] {
		tail++
	}
	for i := head; i < len(parts)-tail; i++ {
		l.set.objects.retain(parts[i].reference())
	}
	for i := head; i < len(old)-tail; i++ {
		l.retired = append(l.retired, old[i].reference())
	}
	l.parts = parts
	l.size = 0
	for i := range parts {
		l.size += parts[i].Bytes
	}
	for _, e := range l.recent[l.unwrittenLocked():] {
		l.size += int64(e.Len)
	}
}

// trimRecentLocked drops the extents that are in parts and not in memory any more.
func (l *Log) trimRecentLocked() {
	first := l.set.tail.firstSeq()
	written, n := l.unwrittenLocked(), 0
	for n < written && (l.recent[n].Life != l.set.life || l.recent[n].Seq < first) {
		n++
	}
	l.dropRecentLocked(n)
}

// dropRecentLocked drops the first n recent extents.
func (l *Log) dropRecentLocked(n int) {
	if n == 0 {
		return
	}
	written := l.unwrittenLocked()
	for i := range n {
		if e := &l.recent[i]; e.Life != l.set.life {
			l.retired = append(l.retired, e.reference())
		}
		if i >= written {
			l.size -= int64(l.recent[i].Len)
		}
	}
	l.recent = slices.Clone(l.recent[n:])
}

// A manifestObject is one being filled with the manifests of many logs.
type manifestObject struct {
	life      wal.Life
	lifeID    uint32
	lives     *lifeTable
	seq       int64
	body      []byte
	snapshots []*snapshot
}

func (s *Set) newManifestObject() *manifestObject {
	o := &manifestObject{life: s.opts.Life, lifeID: s.life, lives: &s.lives, seq: s.objectSeq, body: make([]byte, objectHeaderLen)}
	s.objectSeq++
	s.objects.begin(o.id())
	return o
}

// add writes the snapshot's manifest. It refuses to write what no reader would accept: better a partition that is not trimmed than one
// that cannot be opened.
func (o *manifestObject) add(s *snapshot) error {
	local := localLives{table: o.lives}
	m := &Manifest{
		Partition: s.log.id, Version: s.version, LogStart: s.logStart, EndOffset: s.end, CompactedTo: min(s.compactedTo, s.end),
		Producers: s.producers, Parts: slices.Clone(s.parts), Extents: slices.Clone(s.extents), Rolls: s.rolls, Aborted: s.aborted,
		Epochs: slices.Clone(s.epochs), CoordinatorOffset: -1,
	}
	for i := range m.Epochs {
		m.Epochs[i].Life = local.id(m.Epochs[i].Life)
	}
	for i := range m.Parts {
		m.Parts[i].Life = local.id(m.Parts[i].Life)
	}
	for i := range m.Extents {
		m.Extents[i].Life = local.id(m.Extents[i].Life)
	}
	m.Lives = local.lives
	if s.coordinator != nil {
		m.CoordinatorOffset, m.Coordinator = s.coordinator.offset, s.coordinator.blob
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("manifest of %v: %w", m.Partition, err)
	}
	encoded := m.Encode()
	s.pointer = pointerTo(m, ManifestKey(o.life, o.seq), int64(len(o.body)), encoded)
	s.head = reference{objectID: o.id(), bytes: int64(len(encoded))}
	o.body = append(o.body, encoded...)
	o.snapshots = append(o.snapshots, s)
	return nil
}

func (o *manifestObject) id() objectID { return objectID{KindManifest, o.lifeID, o.seq} }

// finish returns the object's key and bytes.
func (o *manifestObject) finish() (string, []byte) {
	copy(o.body, encodeObjectHeader(o.life, o.seq, len(o.body)))
	return ManifestKey(o.life, o.seq), o.body
}
