package compact

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/protocol/record"
)

// now and retention make horizons easy to recognise: 9100.
const (
	now       = 9000
	retention = 100
	txnBits   = record.AttrTransactional
)

// TestClean is a round, or some, over small logs. A step maps the log from an offset on and cleans all of it; it ends with what
// describe makes of it.
func TestClean(t *testing.T) {
	type step struct {
		from, now, upper int64
		// seen is how many batches the map sees; 0 is all.
		seen int
		want string
	}
	for _, tc := range []struct {
		name    string
		log     []testBatch
		aborted []AbortedTxn
		// lasts are the offsets that end the batches with a last sequence of producer 5.
		lasts []int64
		steps []step
	}{
		{
			name: "C3 last value per key by offset, others go",
			log: []testBatch{
				plain(kv(0, "a", "1"), kv(1, "b", "1"), kv(2, "a", "2")),
				plain(kv(3, "a", "3"), kv(4, "c", "1")),
				plain(kv(5, "d", "1")),
			},
			steps: []step{{want: "rewritten 0-2: 1\nkept 3-4: 3 4\nkept 5-5: 5\n"}},
		},
		{
			name:  "C3 the same record is not newer than itself",
			log:   []testBatch{plain(kv(0, "a", "1"))},
			steps: []step{{want: "kept 0-0: 0\n"}, {want: "kept 0-0: 0\n"}},
		},
		{
			name:  "C3 records without key go, those with an empty one do not",
			log:   []testBatch{plain(kv(0, null, "1"), kv(1, "", "2"), kv(2, "x", "3"))},
			steps: []step{{want: "rewritten 0-2: 1 2\n"}},
		},
		{
			name: "C3 what the map has not seen stays: no key, an old value, a tombstone whose time has come",
			log: []testBatch{
				plain(kv(0, "a", "1")),
				plain(kv(1, null, "1"), kv(2, "a", "2"), kv(3, "a", null)),
			},
			steps: []step{
				{seen: 1, want: "kept 0-0: 0\nrewritten 1-3 until 9100: 1 2 3\n"},
				{seen: 1, now: 9100, want: "kept 0-0: 0\nkept 1-3 until 9100: 1 2 3\n"},
				{now: 9100, upper: 4, want: "dropped\nemptied 1-3:\n"},
			},
		},
		{
			name: "C3 a map of the new part only removes old values of its keys",
			log: []testBatch{
				plain(kv(0, "a", "1"), kv(1, "b", "1"), kv(2, "b", "2")),
				plain(kv(3, "a", "2")),
			},
			steps: []step{{from: 3, want: "rewritten 0-2: 1 2\nkept 3-3: 3\n"}},
		},
		{
			name: "C4 a tombstone stays until its horizon, which is set once",
			log:  []testBatch{plain(kv(0, "a", "1")), plain(kv(1, "a", null), kv(2, "b", "1")), plain(kv(3, "z", "1"))},
			steps: []step{
				{want: "dropped\nrewritten 1-2 until 9100: 1 2\nkept 3-3: 3\n"},
				{now: 9099, want: "kept 1-2 until 9100: 1 2\nkept 3-3: 3\n"},
				{now: 9100, want: "rewritten 1-2 until 9100: 2\nkept 3-3: 3\n"},
				{now: 9900, want: "kept 1-2 until 9100: 2\nkept 3-3: 3\n"},
			},
		},
		{
			name:  "C4 a tombstone that is not the newest gets no horizon",
			log:   []testBatch{plain(kv(0, "a", null), kv(1, "b", "1")), plain(kv(2, "a", "2"))},
			steps: []step{{want: "rewritten 0-1: 1\nkept 2-2: 2\n"}},
		},
		{
			name:  "C5 b the batch that ends the range keeps its header, and loses it when it ends the range no more",
			log:   []testBatch{plain(kv(0, null, "1")), plain(kv(1, null, "1"), kv(2, null, "2")), plain(kv(3, "a", "2"))},
			steps: []step{{upper: 3, want: "dropped\nemptied 1-2:\nkept 3-3: 3\n"}, {upper: 3, want: "kept 1-2:\nkept 3-3: 3\n"}, {upper: 4, want: "dropped\nkept 3-3: 3\n"}},
		},
		{
			name:  "C5 a the last sequence of a producer keeps its header",
			log:   []testBatch{plain(kv(0, "a", "1")).by(5), plain(kv(1, "a", "1")).by(5), plain(kv(2, "a", "2"))},
			lasts: []int64{1},
			steps: []step{{want: "dropped\nemptied 1-1:\nkept 2-2: 2\n"}, {want: "kept 1-1:\nkept 2-2: 2\n"}},
		},
		{
			name:  "C5 a a batch without a producer is not asked for",
			log:   []testBatch{plain(kv(0, "a", "1")), plain(kv(1, "a", "2"))},
			lasts: []int64{0},
			steps: []step{{want: "dropped\nkept 1-1: 1\n"}},
		},
		{
			name: "C6 an aborted value goes and does not displace a committed one; the marker stays delete.retention.ms longer",
			log: []testBatch{
				plain(kv(0, "a", "1")),
				plain(kv(1, "a", "aborted")).by(5).with(txnBits),
				plain(kv(2, "b", "1")).by(5), // not transactional
				marker(3, 5, markerAbort),
				plain(kv(4, "c", "1")).by(5).with(txnBits),
				marker(5, 5, markerCommit),
			},
			aborted: []AbortedTxn{{ProducerID: 5, First: 1, Last: 3}},
			steps: []step{
				{want: "kept 0-0: 0\ndropped\nkept 2-2: 2\nkept 3-3: 3\nkept 4-4: 4\nkept 5-5: 5\n"},
				{want: "kept 0-0: 0\nkept 2-2: 2\nrewritten 3-3 until 9100: 3\nkept 4-4: 4\nkept 5-5: 5\n"},
				{now: 9099, want: "kept 0-0: 0\nkept 2-2: 2\nkept 3-3 until 9100: 3\nkept 4-4: 4\nkept 5-5: 5\n"},
				{now: 9100, want: "kept 0-0: 0\nkept 2-2: 2\ndropped\nkept 4-4: 4\nkept 5-5: 5\n"},
				{now: 9101, want: "kept 0-0: 0\nkept 2-2: 2\nkept 4-4: 4\nkept 5-5: 5\n"},
			},
		},
		{
			name: "C6 a commit marker stays until its data is gone and delete.retention.ms more",
			log: []testBatch{
				plain(kv(0, "a", "1")).by(5).with(txnBits),
				marker(1, 5, markerCommit),
				plain(kv(2, "a", "2")),
			},
			steps: []step{
				{want: "dropped\nkept 1-1: 1\nkept 2-2: 2\n"},
				{want: "rewritten 1-1 until 9100: 1\nkept 2-2: 2\n"},
				{now: 9100, want: "dropped\nkept 2-2: 2\n"},
			},
		},
		{
			name: "C6 a marker at the end of the range becomes a header, and then nothing",
			log:  []testBatch{marker(0, 5, markerCommit), plain(kv(1, "a", "2"))},
			steps: []step{
				{upper: 1, want: "rewritten 0-0 until 9100: 0\nkept 1-1: 1\n"},
				{upper: 1, now: 9100, want: "emptied 0-0:\nkept 1-1: 1\n"},
				{upper: 1, now: 9100, want: "kept 0-0:\nkept 1-1: 1\n"},
				{upper: 2, now: 9100, want: "dropped\nkept 1-1: 1\n"},
			},
		},
		{
			name: "C6 with C5 a an aborted batch with the last sequence keeps its header, and with it its marker",
			log: []testBatch{
				plain(kv(0, "a", "1")).by(5).with(txnBits),
				marker(1, 5, markerAbort),
				plain(kv(2, "z", "1")),
			},
			aborted: []AbortedTxn{{ProducerID: 5, First: 0, Last: 1}},
			lasts:   []int64{0},
			steps:   []step{{want: "emptied 0-0:\nkept 1-1: 1\nkept 2-2: 2\n"}, {want: "kept 0-0:\nkept 1-1: 1\nkept 2-2: 2\n"}},
		},
		{
			name: "C6 a listed transaction whose marker is gone takes no later one with it",
			log: []testBatch{
				plain(kv(2, "a", "1")).by(5).with(txnBits),
				marker(3, 5, markerCommit),
			},
			aborted: []AbortedTxn{{ProducerID: 5, First: 0, Last: 1}},
			steps:   []step{{want: "kept 2-2: 2\nkept 3-3: 3\n"}},
		},
		{
			name: "C6 a marker behind data stays whatever its horizon is",
			log: []testBatch{
				plain(kv(0, "a", "1")).by(5).with(txnBits),
				marker(1, 5, markerCommit).with(record.AttrDeleteHorizon),
			},
			steps: []step{{want: "kept 0-0: 0\nkept 1-1 until 0: 1\n"}},
		},
		{
			name:  "C6 a control record of another kind stays",
			log:   []testBatch{marker(0, 5, 2)},
			steps: []step{{want: "kept 0-0: 0\n"}},
		},
		{
			name:  "C7 offsets stay where records before, between and after go",
			log:   []testBatch{plain(kv(10, "a", "1"), kv(12, "b", "1"), kv(13, "a", "2"), kv(20, "c", "1"), kv(21, "d", "1")), plain(kv(30, "a", ""), kv(31, "c", ""), kv(32, "d", ""))},
			steps: []step{{want: "rewritten 10-21: 12\nkept 30-32: 30 31 32\n"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := buildAll(t, tc.log...)
			for i, s := range tc.steps {
				seen := log
				if s.seen > 0 {
					seen = log[:s.seen]
				}
				r := Round{
					Keys: mapOf(t, seen, s.from, tc.aborted...), Now: max(s.now, now), DeleteRetentionMs: retention,
					UpperBound: s.upper, Aborted: tc.aborted,
					LastOfProducer: func(pid int64, epoch int16, lastOffset int64) bool {
						if pid != 5 || epoch != 3 {
							t.Errorf("asked for producer %d, epoch %d", pid, epoch)
						}
						return slices.Contains(tc.lasts, lastOffset)
					},
				}
				if tc.lasts == nil {
					r.LastOfProducer = nil
				}
				out, whats := clean(t, &r, log)
				if diff := cmp.Diff(strings.Split(s.want, "\n"), strings.Split(describe(t, out, whats), "\n")); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
				log = out
			}
		})
	}
}

// TestCleanKeepsTheRest: a rewritten batch is the old one but for its records, count, horizon and largest timestamp (C4, C9, C10).
func TestCleanKeepsTheRest(t *testing.T) {
	headers := []record.Header{{Key: "h", Value: []byte("v")}, {Key: "", Value: nil}, {Key: "h", Value: []byte{}}}
	for codec := record.None; codec <= record.Zstd; codec++ {
		for _, bits := range []int16{0, record.AttrLogAppendTime, txnBits} {
			for _, tombstone := range []bool{false, true} {
				value := "v"
				if tombstone {
					value = null
				}
				x := plain(
					testRecord{offset: 100, time: 5000, key: "gone", value: "v"},
					testRecord{offset: 101, time: -1, key: "early", value: "", headers: headers, attributes: 0x55},
					testRecord{offset: 102, time: 5, key: "", value: strings.Repeat("long", 10_000)},
					testRecord{offset: 103, time: 4000, key: "stays", value: value, headers: headers[:1]},
					testRecord{offset: 104, time: 6000, key: "gone", value: "v"},
				).by(5).with(bits | int16(codec))
				x.last, x.baseTime = 110, 5000
				old := x.build(t)
				r := Round{Keys: mapOf(t, buildAll(t, x, plain(kv(200, "gone", ""))), 0), Now: now, DeleteRetentionMs: retention}
				b, what, err := r.Clean(old)
				if err != nil || what != Rewritten {
					t.Fatalf("outcome %d, %v", what, err)
				}
				if diff := cmp.Diff(read(t, old)[1:4], read(t, b), cmp.AllowUnexported(testRecord{})); diff != "" {
					t.Errorf("codec %d, attributes %#x: records (-want +got):\n%s", codec, bits, diff)
				}
				wantMax, wantBase, wantBits := int64(4000), int64(5000), old.Attributes()
				if bits == record.AttrLogAppendTime {
					wantMax = old.MaxTimestamp()
				}
				if tombstone {
					wantBase, wantBits = now+retention, wantBits|record.AttrDeleteHorizon
				}
				if b.MaxTimestamp() != wantMax || b.BaseTimestamp() != wantBase || b.Attributes() != wantBits || b.NumRecords() != 3 {
					t.Errorf("codec %d, attributes %#x: largest timestamp %d, base %d, attributes %#x, %d records; want %d, %d, %#x, 3",
						codec, bits, b.MaxTimestamp(), b.BaseTimestamp(), b.Attributes(), b.NumRecords(), wantMax, wantBase, wantBits)
				}
				sameRest(t, old, b)
				data, err := record.Decompress(b, record.Limits{})
				if err != nil || data[1] != 0x55 {
					t.Errorf("codec %d: record attributes are lost: % x, %v", codec, data[:4], err)
				}
			}
		}
	}
}

// sameRest compares what no cleaning changes.
func sameRest(t failer, old, b record.Batch) {
	t.Helper()
	const kept = record.AttrTransactional | record.AttrControl | record.AttrLogAppendTime
	if !bytes.Equal(old[:8], b[:8]) || !bytes.Equal(old[12:17], b[12:17]) || !bytes.Equal(old[23:27], b[23:27]) ||
		!bytes.Equal(old[43:57], b[43:57]) || old.Attributes()&kept != b.Attributes()&kept {
		t.Fatalf("header\n% x became\n% x", old[:record.HeaderSize], b[:record.HeaderSize])
	}
}

// TestEmptyHeader is what Kafka's writeEmptyHeader writes (C5).
func TestEmptyHeader(t *testing.T) {
	x := plain(kv(50, "a", null), kv(51, "a", null)).by(5).with(txnBits | record.AttrDeleteHorizon | int16(record.Gzip))
	x.last, x.baseTime = 59, 100
	old := x.build(t)
	r := Round{Keys: mapOf(t, []record.Batch{old}, 0), Now: now, UpperBound: 60}
	b, what, err := r.Clean(old)
	if err != nil || what != Emptied {
		t.Fatalf("outcome %d, %v", what, err)
	}
	sameRest(t, old, b)
	if got := read(t, b); len(got) != 0 || len(b) != record.HeaderSize {
		t.Errorf("%d records in %d bytes", len(got), len(b))
	}
	if b.Attributes() != txnBits || b.BaseTimestamp() != -1 || b.MaxTimestamp() != old.MaxTimestamp() || b.LastOffset() != 59 {
		t.Errorf("attributes %#x, base timestamp %d, largest %d, last offset %d", b.Attributes(), b.BaseTimestamp(), b.MaxTimestamp(), b.LastOffset())
	}
}

// TestNoHorizonBeyondTime: with a delete.retention.ms that never ends, tombstones have no horizon, and so their batch stays as it is.
func TestNoHorizonBeyondTime(t *testing.T) {
	log := buildAll(t, plain(kv(0, "a", null)))
	r := Round{Keys: mapOf(t, log, 0), Now: now, DeleteRetentionMs: math.MaxInt64}
	if _, what, err := r.Clean(log[0]); what != Kept || err != nil {
		t.Errorf("outcome %d, %v", what, err)
	}
}

// TestRepackedWithinLimits: records that pack far better than they did stay unpacked rather than become a bomb to their readers.
func TestRepackedWithinLimits(t *testing.T) {
	limits := record.Limits{Ratio: 2}
	x := plain(kv(0, "a", "1"), kv(1, "b", strings.Repeat("0", 5<<20))).with(int16(record.Gzip))
	noise := make([]byte, 1<<20)
	for i, s := 0, uint32(1); i < len(noise); i++ {
		s = s*1664525 + 1013904223
		noise[i] = byte(s >> 24)
	}
	x.records[0].value = string(noise)
	old := x.build(t)
	if _, err := readRecords(old, limits); err != nil {
		t.Fatal(err)
	}
	r := Round{Keys: mapOf(t, buildAll(t, plain(kv(9, "a", "2"))), 0), Now: now, Limits: limits}
	b, what, err := r.Clean(old)
	if err != nil || what != Rewritten {
		t.Fatalf("outcome %d, %v", what, err)
	}
	got, err := readRecords(b, limits)
	if err != nil || len(got) != 1 || got[0].offset != 1 || b.Codec() != record.None {
		t.Errorf("%d records, codec %d, %v", len(got), b.Codec(), err)
	}
}

// TestStillAborted: an entry goes once a round finds no data of its transaction (C6).
func TestStillAborted(t *testing.T) {
	log := buildAll(t,
		plain(kv(0, "a", "1")).by(5).with(txnBits),
		plain(kv(1, "a", "1")).by(6).with(txnBits),
		marker(2, 6, markerAbort),
		marker(3, 5, markerAbort),
		plain(kv(4, "a", "1")).by(7).with(txnBits),
		marker(5, 7, markerAbort),
	)
	all := []AbortedTxn{{5, 0, 3}, {6, 1, 2}, {7, 4, 5}, {8, 10, 20}}
	round := func(log []record.Batch) ([]record.Batch, []AbortedTxn) {
		r := Round{Keys: mapOf(t, log, 0, all...), Now: now, Aborted: all}
		if diff := cmp.Diff(all, r.StillAborted()); diff != "" {
			t.Errorf("before the round (-want +got):\n%s", diff)
		}
		out, _ := clean(t, &r, log)
		return out, r.StillAborted()
	}
	first, left := round(log[:5])
	if diff := cmp.Diff(all, left); diff != "" {
		t.Errorf("all were seen or are ahead (-want +got):\n%s", diff)
	}
	if _, left = round(first); len(left) != 2 || left[0].ProducerID != 7 || left[1].ProducerID != 8 {
		t.Errorf("left are %v, want those of 7 and 8, whose markers are ahead", left)
	}
}

// TestKeptTakesNoMemory: most of a log that was cleaned before goes through untouched.
func TestKeptTakesNoMemory(t *testing.T) {
	log := buildAll(t, plain(kv(0, "a", "1"), kv(1, "b", "2"), kv(2, "c", "3")), plain(kv(3, "d", "3")).by(5).with(txnBits), marker(4, 5, markerCommit))
	r := Round{Keys: mapOf(t, log, 0), Now: now, UpperBound: 5}
	if n := testing.AllocsPerRun(100, func() {
		for _, b := range log {
			if _, what, err := r.Clean(b); what != Kept || err != nil {
				t.Fatalf("outcome %d, %v", what, err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
