package sim

import (
	"slices"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/partition"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
	"github.com/tidemill/tidemill/wal"
)

// truth is what must hold, whoever says so: it sees every acknowledgement, answer, transaction and deletion at its instant.
type truth struct {
	w     *world
	parts map[protocol.PartitionID]*partTruth
	// idle is since when nothing has needed an object of the bucket.
	idle map[string]time.Duration
}

// partTruth is what was said of a partition.
type partTruth struct {
	// records are those that somebody was told of, by offset.
	records map[int64]told
	// bases are the offsets of batches that somebody was told of.
	bases map[batchID]int64
	// acks are in the order of time; acked is behind the last acknowledged record.
	acks  []ack
	acked int64
	// logStart is the highest log start that a DeleteRecords was answered with, and asked what somebody asked for, whatever came of it.
	logStart, asked int64
	// kept is the log start of the newest manifest.
	kept int64
	// high is the highest watermark that was answered.
	high int64
	// reigns are the leader epochs so far.
	reigns []metadata.EpochStart
	// needed are the objects that the manifest refers to.
	needed map[string]bool
}

// told is a record and whose append it was, zero while that is not known.
type told struct {
	batch batchID
	life  wal.Life
	key   string
}

type ack struct {
	at   time.Duration
	life wal.Life
	end  int64
}

func newTruth(w *world) *truth {
	return &truth{w: w, parts: map[protocol.PartitionID]*partTruth{}, idle: map[string]time.Duration{}}
}

func (t *truth) part(id protocol.PartitionID) *partTruth {
	p := t.parts[id]
	if p == nil {
		p = &partTruth{records: map[int64]told{}, bases: map[batchID]int64{}}
		t.parts[id] = p
	}
	return p
}

// acknowledged: a node said that a batch is stored.
func (t *truth) acknowledged(n *node, id protocol.PartitionID, b *batchSent, res partition.AppendResult) {
	p := t.part(id)
	t.w.trace("ack", "partition %d at %d: batch %v by %s, duplicate %v", id.Partition, res.BaseOffset, b.id, n.name, res.Duplicate)
	if res.Duplicate {
		t.w.trace("duplicate", "")
	}
	t.batch(n, id, b.id, res.BaseOffset, b.records, res.Duplicate)
	end := res.BaseOffset + int64(b.records)
	if !res.Duplicate {
		if r := p.reigns; len(r) > 0 && r[len(r)-1].Life != n.life && end > r[len(r)-1].Start {
			t.w.violate("ownership", "%s acknowledged up to %d of %d, which %s owns from %d on (O1)", n.name, end, id.Partition, r[len(r)-1].Life, r[len(r)-1].Start)
		}
		for i, key := range b.keys {
			r := p.records[res.BaseOffset+int64(i)]
			r.key = key
			p.records[res.BaseOffset+int64(i)] = r
		}
		p.acks = append(p.acks, ack{t.w.now(), n.life, end})
	}
	p.acked = max(p.acked, end)
}

// batch notes where a batch lies, and by whose append if that is known.
func (t *truth) batch(n *node, id protocol.PartitionID, b batchID, base int64, records int32, reading bool) {
	p := t.part(id)
	if at, known := p.bases[b]; known && at != base {
		t.w.violate("twice", "batch %v of %d is at %d and at %d, says %s", b, id.Partition, at, base, n.name)
	}
	p.bases[b] = base
	for i := range int64(records) {
		old, known := p.records[base+i]
		if known && old.batch != b {
			t.w.violate("lost", "offset %d of %d held batch %v and holds %v, says %s", base+i, id.Partition, old.batch, b, n.name)
		}
		if !reading && !old.life.IsZero() && old.life != n.life {
			t.w.violate("two owners", "offset %d of %d was acknowledged by %s and by %s", base+i, id.Partition, old.life, n.life)
		}
		if !reading {
			old.life = n.life
		}
		p.records[base+i] = told{b, old.life, old.key}
	}
}

// watermark: a node told a reader the high watermark.
func (t *truth) watermark(n *node, id protocol.PartitionID, st partition.State) {
	p := t.part(id)
	for i, r := range p.reigns {
		if r.Epoch == st.LeaderEpoch && i+1 < len(p.reigns) && st.HighWatermark > p.reigns[i+1].Start {
			t.w.violate("watermark", "%s told %d of %d at epoch %d, which ended at %d", n.name, st.HighWatermark, id.Partition, r.Epoch, p.reigns[i+1].Start)
		}
		if r.Epoch == st.LeaderEpoch && st.HighWatermark < r.Start {
			t.w.violate("watermark", "%s told %d of %d at epoch %d, which began at %d", n.name, st.HighWatermark, id.Partition, r.Epoch, r.Start)
		}
	}
	p.high = max(p.high, st.HighWatermark)
}

// promised: a node answered where a partition ends, as fresh.
func (t *truth) promised(n *node, id protocol.PartitionID, end int64) {
	t.w.trace("latest", "partition %d ends at %d, says %s", id.Partition, end, n.name)
	for _, a := range t.part(id).acks {
		if a.life != n.life && a.end > end && a.at <= t.w.now()-freshFor {
			t.w.violate("stale", "%s says that %d ends at %d, and %s acknowledged up to %d %v ago", n.name, id.Partition, end, a.life, a.end, t.w.now()-a.at)
		}
	}
}

// contents: a node read a log from its start.
func (t *truth) contents(n *node, id protocol.PartitionID, st partition.State, found []record.Batch) {
	p, next := t.part(id), st.LogStart
	t.w.trace("read", "partition %d up to %d from %s", id.Partition, st.HighWatermark, n.name)
	for _, b := range found {
		if b.BaseOffset() != next && !(t.w.cfg.policy.Compact && b.BaseOffset() > next) && !(next == st.LogStart && b.BaseOffset() < next) {
			t.w.violate("hole", "%d jumps from %d to %d, says %s", id.Partition, next, b.BaseOffset(), n.name)
			return
		}
		next = b.LastOffset() + 1
		if i := slices.IndexFunc(p.reigns, func(r metadata.EpochStart) bool { return r.Epoch == b.PartitionLeaderEpoch() }); i < 0 ||
			p.reigns[i].Start > b.BaseOffset() || i+1 < len(p.reigns) && b.LastOffset() >= p.reigns[i+1].Start {
			t.w.violate("epoch", "batch at %d of %d has leader epoch %d, says %s, and the epochs are %v", b.BaseOffset(), id.Partition, b.PartitionLeaderEpoch(), n.name, p.reigns)
			return
		}
		t.batch(n, id, batchID{b.ProducerID(), b.BaseSequence()}, b.BaseOffset(), b.LastOffsetDelta()+1, true)
	}
	t.present(n, id, st, found)
}

// present: what a node has read of a log is all that was acknowledged, but for what later records of the same keys have replaced.
func (t *truth) present(n *node, id protocol.PartitionID, st partition.State, found []record.Batch) {
	p := t.part(id)
	there, newest := map[int64]bool{}, map[string]int64{}
	for _, b := range found {
		for r, err := range record.Records(b, record.Limits{}) {
			if err != nil {
				t.w.violate("format", "batch at %d of %d, says %s: %v", b.BaseOffset(), id.Partition, n.name, err)
				return
			}
			there[r.Offset], newest[string(r.Key)] = true, r.Offset
			if known := p.records[r.Offset]; known.key != "" && known.key != string(r.Key) {
				t.w.violate("lost", "offset %d of %d held key %s and holds %s, says %s", r.Offset, id.Partition, known.key, r.Key, n.name)
			}
		}
	}
	for at := st.LogStart; at < st.HighWatermark; at++ {
		if r := p.records[at]; r.key != "" && !there[at] && (!t.w.cfg.policy.Compact || newest[r.key] <= at) {
			t.w.violate("lost", "offset %d of %d with key %s is gone, says %s", at, id.Partition, r.key, n.name)
			return
		}
	}
}

// trimmed: a node said that the records of a partition below an offset are deleted.
func (t *truth) trimmed(n *node, id protocol.PartitionID, start int64) {
	t.w.trace("trimmed", "partition %d begins at %d, says %s", id.Partition, start, n.name)
	p := t.part(id)
	p.logStart = max(p.logStart, start)
}

// start: the owner of a partition, which knows that it is, says where it begins.
func (t *truth) start(n *node, id protocol.PartitionID, start int64) {
	p := t.part(id)
	if start < p.logStart {
		t.w.violate("trim", "%d begins at %d, says %s, and was said to begin at %d", id.Partition, start, n.name, p.logStart)
	}
	if start > p.asked && !t.w.cfg.loses() {
		t.w.violate("lost", "%d begins at %d, says %s, and nobody asked for more than %d", id.Partition, start, n.name, p.asked)
	}
}

// agreed: a transaction was applied.
func (t *truth) agreed(x *write) {
	for _, c := range x.then {
		id, what := partitionOf(c.key)
		switch v := c.kv.value.(type) {
		case partValue:
			t.owner(id, v)
		case metadata.ManifestPointer:
			if what == 'm' {
				t.manifest(id, v)
			}
		}
	}
}

func partitionOf(key string) (id protocol.PartitionID, kind byte) {
	if len(key) == 3 && key[1] == '/' {
		return partition0(int32(key[2] - '0')), key[0]
	}
	return id, 0
}

// owner: a partition has another owner.
func (t *truth) owner(id protocol.PartitionID, v partValue) {
	p := t.part(id)
	for _, n := range t.w.alive() {
		if _, open := n.set.Get(id); open && n.life != v.owner && len(p.reigns) > 0 {
			t.w.trace("twice owned", "partition %d is open at %s", id.Partition, n.name)
		}
	}
	t.w.trace("owner", "partition %d: %s at epoch %d from %d", id.Partition, v.owner, v.epoch, v.start)
	if st, ok := t.w.etcd.keys[stateKey(v.owner)].value.(wal.StreamState); !ok || st.Phase != wal.PhaseOpen {
		t.w.violate("ownership", "%d went to %s, which is not OPEN", id.Partition, v.owner)
	}
	if v.start < p.acked {
		t.w.violate("lost", "epoch %d of %d begins at %d, but what lies below %d was acknowledged", v.epoch, id.Partition, v.start, p.acked)
	}
	if v.start < p.high {
		t.w.violate("watermark", "epoch %d of %d begins at %d, but readers were told %d", v.epoch, id.Partition, v.start, p.high)
	}
	if n := len(p.reigns); n > 0 {
		if last := p.reigns[n-1]; v.epoch != last.Epoch+1 {
			t.w.violate("epoch", "%d went from epoch %d of %s to epoch %d of %s", id.Partition, last.Epoch, last.Life, v.epoch, v.owner)
		}
	}
	for first, h := range v.history {
		i := slices.IndexFunc(p.reigns, func(r metadata.EpochStart) bool { return r.Epoch == h.Epoch })
		if i >= 0 && first == 0 && h.Start == p.kept {
			h.Start = p.reigns[i].Start // it begins where the log does, once that is later
		}
		if i >= 0 && p.reigns[i] != h {
			t.w.violate("epoch", "history of %d says %v where it was %v", id.Partition, h, p.reigns[i])
		}
	}
	p.reigns = append(p.reigns, metadata.EpochStart{Epoch: v.epoch, Start: v.start, Life: v.owner})
}

// manifest: a partition has another manifest, whose objects are needed from now on.
func (t *truth) manifest(id protocol.PartitionID, v metadata.ManifestPointer) {
	p := t.part(id)
	object, ok := t.w.bucket.objects[v.Key]
	if !ok {
		t.w.violate("missing", "the manifest of %d, %s, is not in the bucket", id.Partition, v.Key)
		return
	}
	m, err := partition.DecodeManifest(object[v.Pos:][:v.Len])
	if err != nil {
		t.w.violate("format", "manifest of %d: %v", id.Partition, err)
		return
	}
	if m.LogStart < p.kept {
		t.w.violate("trim", "manifest %d of %d begins at %d, and the one before at %d", v.Version, id.Partition, m.LogStart, p.kept)
	}
	p.kept = m.LogStart
	for key := range p.needed {
		t.idle[key] = t.w.now()
	}
	p.needed = map[string]bool{v.Key: true}
	for i := range m.Parts {
		p.needed[partition.SegmentKey(m.Lives[m.Parts[i].Life], m.Parts[i].Seq)] = true
	}
	for i := range m.Extents {
		p.needed[wal.SlotKey(m.Lives[m.Extents[i].Life], m.Extents[i].Seq)] = true
	}
	for _, key := range sortedKeys(p.needed) {
		if _, ok := t.w.bucket.objects[key]; !ok {
			t.w.violate("missing", "manifest %d of %d needs %s, which is not in the bucket", v.Version, id.Partition, key)
		}
	}
}

// garbage looks for objects that nothing has needed for longer than it may take to find them (G4).
func (t *truth) garbage() {
	c := &t.w.cfg
	if c.checkpoint > time.Minute {
		return // nor has anybody looked
	}
	for _, key := range sortedKeys(t.w.bucket.objects) {
		kind, life, seq, ok := partition.ParseObjectKey(key)
		if !ok || t.needs(key) || t.w.now()-t.idle[key] < c.sweepTime() {
			continue
		}
		st, err := streamOf(life, t.w.etcd.keys[stateKey(life)], t.w.etcd.keys[trimKey(life)])
		switch sealed := err == nil && st.Phase == wal.PhaseSealed; {
		case kind == partition.KindSlot && (!sealed || seq >= st.Deletable() && seq <= st.N):
			continue // a slot that comes back after it was deleted stays until its life ends: nobody looks for it before
		case kind == partition.KindManifest && !sealed:
			continue // of a claim that failed, and for all that its life knows may be applied yet
		}
		t.w.violate("garbage", "%s is in the bucket since %v, and nothing has needed it since %v", key, t.idle[key], t.w.now()-t.idle[key])
	}
}

func (t *truth) needs(key string) bool {
	for i := range int32(t.w.cfg.partitions) {
		if t.part(partition0(i)).needed[key] {
			return true
		}
	}
	return false
}

// deleted: an object leaves the bucket.
func (t *truth) deleted(key string) {
	if t.needs(key) {
		t.w.violate("missing", "%s was deleted, and a manifest needs it", key)
	}
	kind, life, seq, ok := partition.ParseObjectKey(key)
	if !ok || kind != partition.KindSlot {
		return
	}
	st, err := streamOf(life, t.w.etcd.keys[stateKey(life)], t.w.etcd.keys[trimKey(life)])
	if h, err2 := wal.DecodeHeader(t.w.bucket.objects[key]); err == nil && err2 == nil && h.Kind.Ends() && !(st.Phase == wal.PhaseSealed && seq > st.N) && seq >= st.Trim {
		t.w.violate("seal", "%s ends its log and was deleted (G3)", key)
	}
	if err == nil && seq >= st.Trim && !(st.Phase == wal.PhaseSealed && seq > st.N) {
		t.w.violate("missing", "slot %d of %s was deleted, and its trim is %d (G2)", seq, life, st.Trim)
	}
}
