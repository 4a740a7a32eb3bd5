package compact

import (
	"hash/maphash"
	"math/bits"

	"github.com/tidemill/tidemill/protocol/record"
)

// A KeyMap holds the newest offset of each key of a range, in bounded memory (C3). It holds keys as 128-bit hashes whose seeds are
// random and the process's own, so that no client can choose keys that are taken for each other. It is owned by one goroutine.
type KeyMap struct {
	// Moved, if set, is told of each offset that is noted, and of the one that it takes the place of, -1 for a key that was not known.
	Moved func(old, offset int64)

	// table is what is in use of the memory taken so far: open addressing, with linear probing. It has free slots at any time.
	table []slot
	// n slots of at most room are used. max is how long the table may become.
	n, room, max int
	end          int64
	txns         txns
	window       window
	// fetched makes the reads of fetch count for something.
	fetched int64
}

// A slot has no pointers, so that the garbage collector does not look at it.
type slot struct {
	hash keyHash
	// next is the offset after the key's newest record; 0 in a free slot.
	next int64
}

const (
	slotSize = 24
	// A table grows eightfold, so that a topic pays for the keys it has, and the copy that a growing table needs is an eighth.
	growth       = 8
	smallestSize = 512
)

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// A keyHash stands for a key.
type keyHash [2]uint64

func hashOf(key []byte) keyHash {
	return keyHash{maphash.Bytes(seeds[0], key), maphash.Bytes(seeds[1], key)}
}

// NewKeyMap returns an empty map that takes at most that many bytes of memory, and an eighth more at the moments when it grows. It
// holds a key per 27 bytes, nine slots of ten, but always at least one.
func NewKeyMap(bytes int64) *KeyMap {
	return &KeyMap{max: int(max(bytes/slotSize, 2))}
}

// Reset empties the map for another range, whose aborted transactions are given, sorted by their first offset: their records are
// discarded (C6) and must not displace older ones. It keeps the memory, and aborted until the next Reset.
func (m *KeyMap) Reset(aborted ...AbortedTxn) {
	m.table = m.table[:0]
	m.n, m.room, m.end = 0, 0, 0
	m.txns = txns{aborted: aborted}
}

// Len returns the number of keys.
func (m *KeyMap) Len() int { return m.n }

// End returns the offset after the last record seen. Records at or behind it are always retained.
func (m *KeyMap) End() int64 { return m.end }

// AddBatch notes the keys of the records of b from offset from on. Batches come in the order of their offsets. Control batches and
// those of aborted transactions have no keys to note. full means that a record found no room: End is then that record's offset, and
// every record before it is in the map. Errors are ErrInvalid, ErrCorrupt, ErrCodec and ErrBomb of package record; they leave End
// at or before the record that they are about. The checksum is not looked at.
func (m *KeyMap) AddBatch(b record.Batch, from int64, limits record.Limits) (full bool, err error) {
	if err := check(b); err != nil {
		return false, err
	}
	if !b.IsControl() && !m.txns.discards(b) {
		data, err := unpack(b, limits)
		if err != nil {
			return false, err
		}
		if full, err := m.addRecords(b, data, from); full || err != nil {
			return full, err
		}
	}
	if b.LastOffset() >= from {
		m.end = max(m.end, b.LastOffset()+1)
	}
	return false, nil
}

func (m *KeyMap) addRecords(b record.Batch, data []byte, from int64) (full bool, err error) {
	m.window.scan.reset(b, data)
	for {
		items, err := m.window.next(b)
		if len(items) == 0 {
			return false, err
		}
		m.fetch(items)
		for i := range items {
			x := &items[i]
			if x.offset < from {
				continue
			}
			if !x.null && !m.put(x.hash, x.offset) {
				m.end = max(m.end, x.offset)
				return true, nil
			}
			m.end = max(m.end, x.offset+1)
		}
	}
}

// put notes a key's offset. It returns false if the key is new and there is no room for it.
func (m *KeyMap) put(h keyHash, offset int64) bool {
	s := m.find(h)
	if s == nil || s.next == 0 {
		if m.n == m.room {
			if len(m.table) == m.max {
				return false
			}
			m.grow()
			s = m.find(h)
		}
		m.n++
		s.hash = h
	}
	if m.Moved != nil && offset >= s.next {
		m.Moved(s.next-1, offset)
	}
	s.next = max(s.next, offset+1)
	return true
}

// superseded reports whether the map knows a record of that key behind offset.
func (m *KeyMap) superseded(h keyHash, offset int64) bool {
	s := m.find(h)
	return s != nil && s.next > offset+1
}

// fetch brings the slots where the items' keys belong from memory.
func (m *KeyMap) fetch(items []item) {
	if len(m.table) == 0 {
		return
	}
	for i := range items {
		m.fetched += m.table[m.home(items[i].hash)].next
	}
}

// home returns where the search for a key begins. Multiplying maps a hash to any number of slots, without the cost of a division.
func (m *KeyMap) home(h keyHash) int {
	at, _ := bits.Mul64(h[0], uint64(len(m.table)))
	return int(at)
}

// find returns the slot of a key, or the free one where it belongs; nil if there is no table yet.
func (m *KeyMap) find(h keyHash) *slot {
	if len(m.table) == 0 {
		return nil
	}
	for i := m.home(h); ; {
		s := &m.table[i]
		if s.hash == h || s.next == 0 {
			return s
		}
		if i++; i == len(m.table) {
			i = 0
		}
	}
}

func (m *KeyMap) grow() {
	old := m.table
	size := m.nextSize()
	if cap(old) >= size {
		old = append([]slot(nil), old...)
		m.table = m.table[:size]
		clear(m.table)
	} else {
		m.table = make([]slot, size)
	}
	m.room = max(size*9/10, 1)
	for i := range old {
		if old[i].next != 0 {
			*m.find(old[i].hash) = old[i]
		}
	}
}

// nextSize returns the smallest size above the present one, of those that are max divided by growth some times.
func (m *KeyMap) nextSize() int {
	size := m.max
	for size/growth > max(len(m.table), smallestSize) {
		size /= growth
	}
	return size
}
