package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// lifeModel is a log as a list of what was written and a map of what is the last of each key.
type lifeModel struct {
	records []modelRecord
	start   int64
}

type modelRecord struct {
	key, value string
	dead       bool
	ts         int64
}

// lifeMachine drives one log through everything that rewrites, trims and removes, and compares it with the model.
type lifeMachine struct {
	w      *world
	n      *node
	l      *Log
	policy *Policy
	model  lifeModel
	// fewKeys: the table of compaction holds fewer keys than there are.
	fewKeys bool
}

func (m *lifeMachine) produce(t *rapid.T) {
	batches := rapid.IntRange(1, 4).Draw(t, "batches")
	for range batches {
		keys := rapid.SliceOfN(rapid.StringMatching(`-?[a-f]`), 1, 5).Draw(t, "keys")
		ts := m.w.now.UnixMilli()
		o := m.l.try(keyed(ts, keys...))
		if o.calls > 0 && o.err != nil {
			t.Fatal(o.err)
		}
		for i, k := range keys {
			r := modelRecord{key: k, value: fmt.Sprintf("%s at %d", k, ts), ts: ts + int64(i)}
			if k[0] == '-' {
				r = modelRecord{key: k[1:], dead: true, ts: ts + int64(i)}
			}
			m.model.records = append(m.model.records, r)
		}
		if rapid.Bool().Draw(t, "cut") {
			m.n.commit()
		}
		m.w.now = m.w.now.Add(time.Second)
	}
	m.n.commit()
}

func (m *lifeMachine) restart(t *rapid.T, clean bool) {
	if clean {
		m.must(t, m.n.set.Checkpoint(context.Background()))
	}
	m.n = m.w.reopen(m.n.kill(), m.options)
	m.l = m.n.log(0)
}

func (m *lifeMachine) options(o *Options) {
	o.Policy = func(protocol.TopicID) *Policy { return m.policy }
	o.Upkeep = func() Upkeep {
		u := DefaultUpkeep()
		if m.fewKeys {
			u.KeyMapBytes = 100 // three keys: rounds end early and another goes on
		}
		return u
	}
	o.TailBytes, o.CacheBytes = 2000, 5000
}

func (m *lifeMachine) must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *lifeMachine) step(t *rapid.T) {
	ctx := context.Background()
	switch rapid.IntRange(0, 14).Draw(t, "step") {
	case 0, 1, 2, 3:
		m.produce(t)
	case 4, 5, 13, 14:
		m.must(t, m.n.set.Checkpoint(ctx))
	case 6:
		_, err := m.n.set.Compact(ctx)
		m.must(t, err)
	case 7:
		m.must(t, m.n.set.Merge(ctx))
	case 8:
		m.must(t, m.n.set.Retain(ctx))
		m.model.start = m.l.State().LogStart // TestRetention says whether it is right
	case 9:
		st := m.l.State()
		to := rapid.Int64Range(st.LogStart, st.HighWatermark).Draw(t, "delete up to")
		got, err := m.l.DeleteRecords(ctx, to)
		if err != nil || got != to {
			t.Fatalf("delete records up to %d: %d, %v", to, got, err)
		}
		m.model.start = to
	case 10:
		m.restart(t, rapid.Bool().Draw(t, "clean"))
	case 11: // trouble with the store: all of it fails or none of it matters
		m.w.store.SetRules(faultstore.Rule{Fault: faultstore.Fault(rapid.SampledFrom([]int{int(faultstore.Lost), int(faultstore.LostReply)}).Draw(t, "fault")), Chance: 0.5})
		_ = m.n.set.Checkpoint(ctx)
		_, _ = m.n.set.Compact(ctx)
		_ = m.n.set.Merge(ctx)
		m.w.store.SetRules()
	case 12:
		m.must(t, m.n.set.Sweep(ctx))
		m.w.now = m.w.now.Add(m.n.set.opts.DeleteDelay)
		m.must(t, m.n.set.deleteDue(ctx))
	}
}

// check reads the log from its start. What is read is what was written, at its offset; what a policy may not remove is there.
func (m *lifeMachine) check(t *rapid.T) {
	st := m.l.State()
	if st.LogStart != m.model.start || st.HighWatermark != int64(len(m.model.records)) {
		t.Fatalf("log from %d to %d, want %d to %d", st.LogStart, st.HighWatermark, m.model.start, len(m.model.records))
	}
	read := map[int64]bool{}
	last := int64(-1)
	for _, r := range m.l.allRecords(m.w.t, 0) {
		want := m.model.records[r.Offset]
		if string(r.Key) != want.key || string(r.Value) != want.value || (r.Value == nil) != want.dead || r.Timestamp != want.ts || r.Offset <= last {
			t.Fatalf("offset %d is %+v, want %+v", r.Offset, r, want)
		}
		last = r.Offset
		read[r.Offset] = true
	}
	newest := map[string]int64{}
	for offset := m.model.start; offset < st.HighWatermark; offset++ {
		newest[m.model.records[offset].key] = offset
	}
	for offset := m.model.start; offset < st.HighWatermark; offset++ {
		r := m.model.records[offset]
		superseded := m.policy.Compact && (newest[r.key] > offset || r.dead) && offset < m.l.compactedTo
		if !read[offset] && !superseded {
			t.Fatalf("offset %d (%+v) is gone; the newest of its key is at %d, compaction was up to %d", offset, r, newest[r.key], m.l.compactedTo)
		}
	}
	for ts := range 3 { // exact look-ups by time, also on old data (L2)
		m.checkTime(t, read, m.w.now.UnixMilli()-int64(ts)*3500)
	}
}

func (m *lifeMachine) checkTime(t *rapid.T, read map[int64]bool, ts int64) {
	wantTS, want := int64(-1), int64(-1)
	for offset := m.model.start; offset < int64(len(m.model.records)); offset++ {
		if r := m.model.records[offset]; read[offset] && r.ts >= ts {
			wantTS, want = r.ts, offset
			break
		}
	}
	if got, offset, err := m.l.OffsetsForTime(context.Background(), ts); err != nil || got != wantTS || offset != want {
		t.Fatalf("time %d: (%d, %d), %v, want (%d, %d)", ts, got, offset, err, wantTS, want)
	}
}

// TestLifeCycle is random produce, delete, compact, merge, restart and trouble against a model that is a list and a map.
func TestLifeCycle(t *testing.T) {
	for name, policy := range map[string]Policy{
		"delete":                                {Delete: true, RetentionMs: 20_000, RetentionBytes: 3000, SegmentBytes: 600, SegmentMs: 1 << 40},
		"compact":                               {Compact: true, RetentionMs: 1, RetentionBytes: 1, SegmentBytes: 600, SegmentMs: 5000, MinCleanableRatio: 0.01},
		"compact, blocks smaller than segments": {Compact: true, RetentionMs: -1, RetentionBytes: -1, SegmentBytes: 2000, SegmentMs: 1 << 40, MinCleanableRatio: 0.01},
		"both": {
			Delete: true, Compact: true, RetentionMs: 60_000, RetentionBytes: -1, SegmentBytes: 600, SegmentMs: 1 << 40,
			MinCleanableRatio: 0.3, DeleteRetentionMs: 3000,
		},
		"neither": {RetentionMs: 1, RetentionBytes: 1, SegmentBytes: 600, SegmentMs: 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				m := &lifeMachine{w: newWorld(t), policy: &policy, fewKeys: rapid.Bool().Draw(rt, "few keys")}
				m.n = m.w.start(m.options)
				m.l = m.n.create(0)
				for range rapid.IntRange(1, 80).Draw(rt, "steps") {
					m.step(rt)
					m.check(rt)
				}
				m.restart(rt, false)
				m.check(rt)
			})
		})
	}
}

func TestCompactionLeavesDamagedLogsAlone(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	l := n.create(0)
	p := lifePolicies(1)
	l.SetPolicy(p)
	for i := range 10 {
		l.try(keyed(int64(i), "a", "b"))
		n.commit()
	}
	n.checkpointed(t)
	was := len(l.parts)
	w.store.SetRules(faultstore.Rule{Op: faultstore.ReadAt, Fault: faultstore.Flip})
	if worked, err := n.set.Compact(context.Background()); !errors.Is(err, ErrCorrupt) || worked {
		t.Errorf("compaction of damaged data: %v, %v", worked, err)
	}
	w.store.SetRules()
	if l.rewriting || len(l.parts) != was || l.compactedTo != 0 {
		t.Errorf("in hand: %v, %d parts, compacted up to %d", l.rewriting, len(l.parts), l.compactedTo)
	}
	if worked, err := n.set.Compact(context.Background()); err != nil || worked {
		t.Errorf("it is read again: %v, %v", worked, err)
	}
	n = w.reopen(n.kill())
	n.log(0).SetPolicy(p)
	if worked, err := n.set.Compact(context.Background()); err != nil || !worked {
		t.Errorf("in the next life: %v, %v", worked, err)
	}
}

// TestCompactionIsSeenAtOnce: what is in memory as it was written does not hide that it was compacted, and what is only in slots is
// compacted without waiting for a checkpoint.
func TestCompactionIsSeenAtOnce(t *testing.T) {
	n := newWorld(t).start()
	l := n.create(0)
	l.SetPolicy(lifePolicies(1))
	for i := range 12 {
		l.try(keyed(int64(i), "a", "b"))
		if i%5 == 4 {
			n.commit()
		}
	}
	n.commit()
	if worked, err := n.set.Compact(context.Background()); err != nil || !worked {
		t.Fatalf("compact: %v, %v", worked, err)
	}
	active := l.rolls[len(l.rolls)-1].Base
	if got, want := len(l.allRecords(t, 0)), int(24-active)+2; got != want {
		t.Errorf("%d records, want %d: all from %d on and the last of each key before", got, want, active)
	}
	if worked, err := n.set.Compact(context.Background()); err != nil || worked {
		t.Errorf("compact again: %v, %v", worked, err)
	}
}

// TestCompactionDoesNotReadAgainWhatIsDead: a block of which nothing would stay is read once, for its keys. What stays for another reason
// than its keys, the last sequence of a producer (C5) and the end of the round, is not lost by it.
func TestCompactionDoesNotReadAgainWhatIsDead(t *testing.T) {
	w := newWorld(t)
	var reads atomic.Int64
	n := w.start(func(o *Options) { o.TailBytes, o.CacheBytes = 1, 1 })
	n.set.opts.Store = spy{w.mem, func(key string, p []byte, _ int64) { reads.Add(1) }}
	l := n.create(0)
	p := lifePolicies(1)
	p.SegmentBytes = 1500
	l.SetPolicy(p)
	const batches = 40
	for i := range batches {
		b := keyed(int64(i), "a", "b")
		if i == 3 {
			b = keyed(int64(i), "a", "once")
		}
		if i == 7 {
			b = producerBatch(5, 0, 0, 2, 7) // without keys, and the last that this producer wrote
		}
		l.try(b)
		n.commit()
		n.checkpointed(t)
	}
	closed := l.rolls[len(l.rolls)-1].Base / 2
	size := l.SizeBytes()
	reads.Store(0)
	if worked, err := n.set.Compact(context.Background()); err != nil || !worked {
		t.Fatal(worked, err)
	}
	// Each part is one block with its index; the index is read once, and the block twice only if something of it stays: the producer's,
	// the last of its round, and those that two rolls share.
	if most := int64(2*batches + 10); reads.Load() > most {
		t.Errorf("%d reads for %d blocks, want at most %d", reads.Load(), batches, most)
	}
	n.set.opts.Store = w.mem
	var rolls int64
	for _, r := range l.rolls {
		rolls += r.Bytes
	}
	if l.SizeBytes() != rolls || l.SizeBytes() >= size {
		t.Errorf("the log has %d bytes, its rolls say %d, before it were %d", l.SizeBytes(), rolls, size)
	}
	if got, want := len(l.allRecords(t, 0)), int(2*(batches-closed))+3; got != want {
		t.Errorf("%d records, want %d", got, want)
	}
	r, err := l.Read(context.Background(), ReadInput{Offset: 8, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := record.Next(bytes.Join(r.Batches, nil))
	if err != nil || b.ProducerID() != 5 || b.LastOffset() != 15 || b.NumRecords() != 0 {
		t.Errorf("C5: the first batch is of producer %d, up to offset %d, with %d records: %v", b.ProducerID(), b.LastOffset(), b.NumRecords(), err)
	}
	l.try(producerBatch(5, 0, 0, 2, 7)).want(t, "the producer's last batch again", 14, nil)
}

// TestCompactionSparesWhatACoordinatorHasYetToReplay: its state in the manifest is of an offset, and replay goes on from there. Were a
// tombstone behind it removed, what it removes would be back.
func TestCompactionSparesWhatACoordinatorHasYetToReplay(t *testing.T) {
	w := newWorld(t)
	offset := int64(4)
	n := w.start(func(o *Options) {
		o.Coordinator = func(protocol.PartitionID) (int64, []byte, bool) { return offset, []byte("state"), true }
	})
	l := n.create(0)
	l.SetPolicy(lifePolicies(1)) // tombstones may go at once
	for i := range 12 {
		l.try(keyed(int64(i), "a", "-b"))
		n.commit()
		w.now = w.now.Add(time.Second)
	}
	n.checkpointed(t)
	for range 3 {
		w.now = w.now.Add(time.Hour)
		if _, err := n.set.Compact(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if l.compactedTo > offset || len(l.allRecords(t, offset)) != 20 {
		t.Errorf("compacted up to %d, %d records from %d on", l.compactedTo, len(l.allRecords(t, offset)), offset)
	}
	offset = 24
	l.try(keyed(99, "a"))
	n.commit()
	n.checkpointed(t) // with a newer state
	if worked, err := n.set.Compact(context.Background()); err != nil || !worked || l.compactedTo <= 4 {
		t.Errorf("with a newer state: %v, %v, compacted up to %d", worked, err, l.compactedTo)
	}
}
