package compact

import (
	"fmt"
	"testing"

	"github.com/tidemill/tidemill/protocol/record"
)

// TestKeyMapFull: End is the offset of the record without room; a key that is known needs none (C3).
func TestKeyMapFull(t *testing.T) {
	m := NewKeyMap(3 * slotSize) // room for two keys
	b := plain(kv(10, "a", "1"), kv(11, "b", "1"), kv(12, null, "1"), kv(13, "a", "2"), kv(15, "c", "1"), kv(16, "b", "2")).build(t)
	full, err := m.AddBatch(b, 0, record.Limits{})
	if !full || err != nil || m.End() != 15 || m.Len() != 2 {
		t.Fatalf("full %v, %v, end %d, %d keys; want full, 15, 2", full, err, m.End(), m.Len())
	}
	for key, newest := range map[string]int64{"a": 13, "b": 11} {
		if m.superseded(hashOf([]byte(key)), newest) || !m.superseded(hashOf([]byte(key)), newest-1) {
			t.Errorf("key %q: newest is not %d", key, newest)
		}
	}
	r := Round{Keys: m, Now: now}
	out, whats := clean(t, &r, []record.Batch{b})
	if got, want := describe(t, out, whats), "rewritten 10-16: 11 13 15 16\n"; got != want {
		t.Errorf("cleaned:\n%swant\n%s", got, want)
	}
	m.Reset()
	if m.Len() != 0 || m.End() != 0 || m.superseded(hashOf([]byte("a")), 0) {
		t.Errorf("after Reset: %d keys, end %d", m.Len(), m.End())
	}
	if full, err := m.AddBatch(b, 15, record.Limits{}); full || err != nil || m.End() != 17 || m.Len() != 2 {
		t.Errorf("the other half: full %v, %v, end %d, %d keys; want 17, 2", full, err, m.End(), m.Len())
	}
}

func TestKeyMapSmallest(t *testing.T) {
	m := NewKeyMap(0)
	b := plain(kv(0, "a", "1"), kv(1, "b", "1")).build(t)
	if full, err := m.AddBatch(b, 0, record.Limits{}); !full || err != nil || m.End() != 1 {
		t.Errorf("full %v, %v, end %d; want full at 1, so that rounds go on", full, err, m.End())
	}
}

// TestKeyMapEnd: batches without keys move the end too, those before the range do not.
func TestKeyMapEnd(t *testing.T) {
	m := NewKeyMap(1 << 10)
	m.Reset(AbortedTxn{ProducerID: 5, First: 20, Last: 25})
	gap := plain(kv(30, "x", "1"))
	gap.last = 39
	for _, x := range []struct {
		b    testBatch
		end  int64
		keys int
	}{
		{plain(kv(0, "a", "1")), 0, 0},
		{plain(kv(9, "a", "1"), kv(10, "b", "1")), 11, 1},
		{marker(11, 6, markerCommit), 12, 1},
		{plain(kv(20, "c", "1")).by(5).with(txnBits), 21, 1},
		{gap, 40, 2},
	} {
		if full, err := m.AddBatch(x.b.build(t), 10, record.Limits{}); full || err != nil || m.End() != x.end || m.Len() != x.keys {
			t.Errorf("after the batch at %d: full %v, %v, end %d, %d keys; want %d, %d", x.b.base, full, err, m.End(), m.Len(), x.end, x.keys)
		}
	}
}

// TestKeyMapGrows: it holds what it promises within its memory, takes little for few keys, and is right at any size.
func TestKeyMapGrows(t *testing.T) {
	const bytes, keys = 1 << 20, 1 << 20 / 27
	m := NewKeyMap(bytes)
	for round := range 3 {
		for i := range keys {
			if !m.put(hashOf(fmt.Append(nil, i)), int64(i+round)) {
				t.Fatalf("no room for key %d of %d", i, keys)
			}
			if i == 100 && len(m.table) > 5000 {
				t.Fatalf("%d slots for 100 keys", len(m.table))
			}
		}
		for i := range keys {
			if h := hashOf(fmt.Append(nil, i)); m.superseded(h, int64(i+round)) || !m.superseded(h, int64(i+round-1)) {
				t.Fatalf("round %d: key %d has another offset", round, i)
			}
		}
		if cap(m.table)*slotSize > bytes || m.Len() != keys {
			t.Fatalf("%d slots of %d bytes, %d keys", cap(m.table), slotSize, m.Len())
		}
		m.Reset()
		if m.superseded(hashOf([]byte("1")), 0) {
			t.Fatal("a key outlives Reset")
		}
	}
	for i := keys * 2; m.put(hashOf(fmt.Append(nil, i)), 1); i++ {
		if i > keys*4 {
			t.Fatal("the map is never full")
		}
	}
}
