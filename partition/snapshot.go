package partition

import (
	"fmt"
	"hash/crc32"
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
	end         int64
	// extents begin behind the pages; consumed is how many of the log's recent extents lie before them.
	extents     []Extent
	consumed    int
	pages       []PageRef
	epochs      []Epoch
	producers   []Producer
	coordinator *coordinatorState
	pointer     metadata.ManifestPointer
}

// snapshot takes the log's committed state. A logStart above the present one is that of the manifest (M7).
func (l *Log) snapshot(logStart int64) *snapshot {
	coordinator := l.coordinatorNow()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expireLocked(l.set.opts.Now().UnixMilli())
	l.releaseLocked()
	if coordinator == nil || coordinator.offset > l.hw || l.coordinator != nil && coordinator.offset < l.coordinator.offset {
		coordinator = l.coordinator
	}
	start := max(l.logStart, logStart)
	page, first := findPage(l.pages, start), findExtent(l.recent, start)
	return &snapshot{
		log: l, prevVersion: l.manifestVersion, version: l.manifestVersion + 1, logStart: start, end: l.hw,
		extents: slices.Clone(l.recent[first:]), consumed: first, pages: l.pages[page:len(l.pages):len(l.pages)],
		epochs: trimEpochs(l.epochs, start), producers: l.producersLocked(), coordinator: coordinator,
	}
}

// coordinatorNow asks the hook, without locks and before the log is looked at: so the log is never behind the coordinator.
func (l *Log) coordinatorNow() *coordinatorState {
	if l.set.opts.Coordinator == nil {
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
	l.manifestVersion, l.unsure = s.version, false
	l.logStart, l.pages, l.coordinator = s.logStart, s.pages, s.coordinator
	l.epochs = trimEpochs(l.epochs, s.logStart)
	if s.consumed > 0 {
		l.recent = slices.Clone(l.recent[s.consumed:])
	}
	l.size = 0
	for i := range l.pages {
		l.size += l.pages[i].Bytes
	}
	for i := range l.recent {
		l.size += int64(l.recent[i].Len)
	}
}

// An object is a manifest object being filled: manifests and pages of many logs.
type object struct {
	life      wal.Life
	lifeID    uint32
	lives     *lifeTable
	seq       int64
	body      []byte
	snapshots []*snapshot
}

func (s *Set) newObject() *object {
	o := &object{life: s.opts.Life, lifeID: s.life, lives: &s.lives, seq: s.objectSeq, body: make([]byte, objectHeaderLen)}
	s.objectSeq++
	return o
}

// add cuts pages from the snapshot's extents if there are enough, and writes its manifest. It refuses to write what no reader would
// accept: better a partition that is not trimmed than one that cannot be opened.
func (o *object) add(s *snapshot) error {
	for len(s.extents) >= pageExtentsMin {
		n := min(len(s.extents), pageExtentsMax)
		s.pages = append(s.pages, o.addPage(s.log, s.extents[:n]))
		s.extents, s.consumed = s.extents[n:], s.consumed+n
	}
	local := localLives{table: o.lives}
	m := &Manifest{
		Partition: s.log.id, Version: s.version, LogStart: s.logStart, EndOffset: s.end,
		Producers: s.producers, Pages: slices.Clone(s.pages), Epochs: slices.Clone(s.epochs), CoordinatorOffset: -1,
	}
	for i := range m.Epochs {
		m.Epochs[i].Life = local.id(m.Epochs[i].Life)
	}
	for i := range m.Pages {
		m.Pages[i].Life = local.id(m.Pages[i].Life)
	}
	m.Extents = local.extents(s.extents)
	m.Lives = local.lives
	if s.coordinator != nil {
		m.CoordinatorOffset, m.Coordinator = s.coordinator.offset, s.coordinator.blob
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("manifest of %v: %w", m.Partition, err)
	}
	encoded := m.Encode()
	s.pointer = pointerTo(m, objectKey(o.life, o.seq), int64(len(o.body)), encoded)
	o.body = append(o.body, encoded...)
	o.snapshots = append(o.snapshots, s)
	return nil
}

func (o *object) addPage(l *Log, extents []Extent) PageRef {
	local := localLives{table: o.lives}
	translated := local.extents(extents)
	encoded := encodePage(l.id, local.lives, translated)
	maxTimestamp, bytes := sumUp(extents)
	ref := PageRef{
		Base: extents[0].Base, Last: extents[len(extents)-1].Last, MaxTimestamp: maxTimestamp, Bytes: bytes,
		Seq: o.seq, Life: o.lifeID, Pos: uint32(len(o.body)), Len: uint32(len(encoded)),
		CRC: crc32.Checksum(encoded, castagnoli), Count: uint32(len(extents)),
	}
	o.body = append(o.body, encoded...)
	return ref
}

// finish returns the object's key and bytes.
func (o *object) finish() (string, []byte) {
	copy(o.body, encodeObjectHeader(o.life, o.seq, len(o.body)))
	return objectKey(o.life, o.seq), o.body
}
