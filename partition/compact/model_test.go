package compact

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/protocol/record"
)

// model is a log as a list of batches, and what is known of every record that ever was in it.
type model struct {
	log     []record.Batch
	origin  map[int64]record.Batch // by last offset
	records map[int64]testRecord
	aborted []AbortedTxn
	// dead are the offsets of aborted records, markers those of markers.
	dead, markers map[int64]bool
	// next is the offset of the next append, clean where the unclean part begins.
	next, clean, now int64
}

// TestModel runs random rounds over random logs and holds what is left against a map and a list.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			m.now += rapid.SampledFrom([]int64{0, retention - 1, retention, 3 * retention}).Draw(t, "later")
			m.round(t, rapid.IntRange(0, 12).Draw(t, "slots"))
		}
		// Two rounds with room enough: the last one has no unclean part left.
		m.round(t, 1000)
		m.round(t, 1000)
		want := map[string]int64{}
		for _, offset := range slices.Sorted(maps.Keys(m.records)) {
			if r := m.records[offset]; !m.dead[offset] && !m.markers[offset] && r.key != null {
				want[r.key] = offset
			}
		}
		for _, r := range m.live(m.log) {
			if offset, ok := want[r.key]; !ok || offset != r.offset {
				t.Fatalf("record %d of key %q is left, want %d", r.offset, r.key, offset)
			}
			delete(want, r.key)
		}
		for key, offset := range want {
			if m.records[offset].value != null {
				t.Fatalf("the last value of key %q, at %d, is gone", key, offset)
			}
		}
	})
}

func newModel(t *rapid.T) *model {
	m := &model{origin: map[int64]record.Batch{}, records: map[int64]testRecord{}, dead: map[int64]bool{}, markers: map[int64]bool{}, now: now}
	open := map[int64][]int64{} // offsets by producer with a transaction
	for range rapid.IntRange(1, 25).Draw(t, "batches") {
		pid := rapid.Int64Range(-1, 3).Draw(t, "producer") // 2 and 3 are transactional
		if offsets := open[pid]; len(offsets) > 0 && rapid.Bool().Draw(t, "ends") {
			m.end(t, pid, offsets)
			delete(open, pid)
			continue
		}
		offsets := m.append(t, pid)
		if pid >= 2 {
			open[pid] = append(open[pid], offsets...)
		}
	}
	for _, pid := range slices.Sorted(maps.Keys(open)) {
		m.end(t, pid, open[pid])
	}
	slices.SortFunc(m.aborted, func(a, b AbortedTxn) int { return int(a.First - b.First) })
	return m
}

func (m *model) append(t *rapid.T, pid int64) (offsets []int64) {
	x := testBatch{base: m.next, pid: -1, epoch: -1, seq: -1, attributes: int16(rapid.IntRange(0, 4).Draw(t, "codec"))}
	if pid >= 0 {
		x = x.by(pid)
	}
	if pid >= 2 {
		x = x.with(txnBits)
	}
	if rapid.Bool().Draw(t, "log append time") {
		x = x.with(record.AttrLogAppendTime)
	}
	x.baseTime = rapid.Int64Range(0, 1<<41).Draw(t, "base time")
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		x.records = append(x.records, testRecord{
			offset: m.next,
			time:   rapid.OneOf(rapid.Just(x.baseTime), rapid.Int64Range(-1, 1<<41)).Draw(t, "time"),
			key:    rapid.SampledFrom([]string{null, "", "a", "b", "c", "d", "e", "f"}).Draw(t, "key"),
			value:  rapid.SampledFrom([]string{null, "", "v", "w"}).Draw(t, "value"),
			headers: rapid.SampledFrom([][]record.Header{
				nil, {{Key: "h", Value: []byte("v")}}, {{Key: ""}, {Key: "h", Value: []byte{}}},
			}).Draw(t, "headers"),
		})
		offsets = append(offsets, m.next)
		m.next++
	}
	m.add(t, x)
	return offsets
}

func (m *model) end(t *rapid.T, pid int64, offsets []int64) {
	kind := uint16(markerCommit)
	if rapid.Bool().Draw(t, "abort") {
		kind = markerAbort
		m.aborted = append(m.aborted, AbortedTxn{ProducerID: pid, First: offsets[0], Last: m.next})
		for _, o := range offsets {
			m.dead[o] = true
		}
	}
	m.markers[m.next] = true
	m.add(t, marker(m.next, pid, kind))
	m.next++
}

func (m *model) add(t *rapid.T, x testBatch) {
	b := x.build(t)
	m.log = append(m.log, b)
	m.origin[b.LastOffset()] = b
	for _, r := range read(t, b) {
		m.records[r.offset] = r
	}
	m.next += rapid.Int64Range(0, 2).Draw(t, "gap") // not seen by readers
}

// live returns the records of a log that are neither aborted nor markers.
func (m *model) live(log []record.Batch) (out []testRecord) {
	for _, b := range log {
		if b.IsControl() {
			continue
		}
		rs, err := readRecords(b, record.Limits{})
		if err != nil {
			panic(err)
		}
		for _, r := range rs {
			if !m.dead[r.offset] {
				out = append(out, r)
			}
		}
	}
	return out
}

// round cleans up to a random batch and checks every batch of the result.
func (m *model) round(t *rapid.T, slots int) {
	bound := rapid.IntRange(0, len(m.log)).Draw(t, "bound")
	if slots > 100 {
		bound = len(m.log)
	}
	if bound == 0 {
		return
	}
	part, upper := m.log[:bound], m.log[bound-1].LastOffset()+1
	keys := NewKeyMap(int64(slots) * slotSize)
	keys.Reset(m.aborted...)
	for _, b := range part {
		full, err := keys.AddBatch(b, m.clean, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if full {
			break
		}
	}
	remembered := rapid.Int64Range(0, m.next).Draw(t, "last of its producer")
	r := Round{
		Keys: keys, Now: m.now, DeleteRetentionMs: retention, UpperBound: upper, Aborted: m.aborted,
		LastOfProducer: func(pid int64, _ int16, last int64) bool { return pid >= 0 && last == remembered },
	}
	newest := map[string]int64{}
	for _, x := range m.live(part) {
		if x.offset >= m.clean && x.offset < keys.End() && x.key != null {
			newest[x.key] = x.offset
		}
	}
	var out []record.Batch
	behind := map[int64]bool{} // producers with data since their last marker
	for _, b := range part {
		c, what, err := r.Clean(b)
		if err != nil {
			t.Fatal(err)
		}
		if b.IsControl() {
			m.checkMarker(t, b, c, behind[b.ProducerID()], &r, remembered)
			delete(behind, b.ProducerID())
		} else {
			behind[b.ProducerID()] = b.IsTransactional()
			m.checkData(t, b, c, newest, &r, remembered)
		}
		if what != Dropped {
			m.checkBatch(t, c)
			out = append(out, c)
		}
	}
	if n := len(out); n == 0 || out[n-1].LastOffset()+1 != upper {
		t.Fatalf("C5: %d batches are left, and do not end at %d", n, upper)
	}
	m.clean = max(m.clean, keys.End())
	m.aborted = r.StillAborted()
	m.log = append(out, m.log[bound:]...)
}

// checkBatch holds what a round returned against what was appended (C7, C9, C10).
func (m *model) checkBatch(t *rapid.T, c record.Batch) {
	old := m.origin[c.LastOffset()]
	if old == nil {
		t.Fatalf("there was no batch that ends at %d", c.LastOffset())
	}
	sameRest(t, old, c)
	last := int64(-1)
	got := read(t, c)
	for _, r := range got {
		if diff := cmp.Diff(m.records[r.offset], r, cmp.AllowUnexported(testRecord{})); diff != "" || r.offset <= last {
			t.Fatalf("record %d after %d (-want +got):\n%s", r.offset, last, diff)
		}
		last = r.offset
	}
	if len(got) > 0 && c.Codec() != old.Codec() {
		t.Fatalf("codec %d became %d", old.Codec(), c.Codec())
	}
}

// checkData: a record is gone if and only if there is a reason.
func (m *model) checkData(t *rapid.T, b, c record.Batch, newest map[string]int64, r *Round, remembered int64) {
	var was, is []testRecord
	was = read(t, b)
	if c != nil {
		is = read(t, c)
	}
	horizon, stamped := b.DeleteHorizon()
	var want []int64
	tombstone := false
	for _, x := range was {
		switch {
		case m.dead[x.offset]: // C6
		case x.offset >= r.Keys.End():
			want = append(want, x.offset)
			tombstone = tombstone || x.value == null
		case x.key == null || x.offset < newest[x.key]: // C3
		case x.value == null && stamped && horizon <= r.Now: // C4
		default:
			want = append(want, x.offset)
			tombstone = tombstone || x.value == null
		}
	}
	var got []int64
	for _, x := range is {
		got = append(got, x.offset)
	}
	if !slices.Equal(want, got) {
		t.Fatalf("batch %d-%d retains %v, want %v (map to %d, newest %v)", b.BaseOffset(), b.LastOffset(), got, want, r.Keys.End(), newest)
	}
	if len(want) == 0 {
		m.checkEmpty(t, b, c, r, remembered)
		return
	}
	if tombstone && !stamped {
		horizon, stamped = r.Now+retention, true
	}
	if at, ok := c.DeleteHorizon(); ok != stamped || ok && at != horizon {
		t.Fatalf("C4: horizon %d, %v, want %d, %v", at, ok, horizon, stamped)
	}
}

func (m *model) checkMarker(t *rapid.T, b, c record.Batch, data bool, r *Round, remembered int64) {
	horizon, stamped := b.DeleteHorizon()
	switch {
	case b.NumRecords() == 0 || !data && stamped && horizon <= r.Now:
		m.checkEmpty(t, b, c, r, remembered)
	case c == nil || c.NumRecords() == 0:
		t.Fatalf("C6: the marker at %d is gone; data before it: %v, horizon %d, %v, now %d", b.LastOffset(), data, horizon, stamped, r.Now)
	default:
		if at, ok := c.DeleteHorizon(); ok != (stamped || !data) || ok && !stamped && at != r.Now+retention || stamped && at != horizon {
			t.Fatalf("C6: horizon %d, %v; data before it: %v, horizon before %d, %v", at, ok, data, horizon, stamped)
		}
	}
}

func (m *model) checkEmpty(t *rapid.T, b, c record.Batch, r *Round, remembered int64) {
	keep := b.LastOffset()+1 == r.UpperBound || b.ProducerID() >= 0 && b.LastOffset() == remembered
	if (c != nil) != keep || c != nil && c.NumRecords() != 0 {
		t.Fatalf("C5: batch %d-%d without records is %x, want a header: %v", b.BaseOffset(), b.LastOffset(), []byte(c), keep)
	}
}
