package wal

import (
	"hash/crc32"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/internal/memory"
	"github.com/tidemill/tidemill/protocol"
)

// maxSlotBytes bounds an object: positions are 32 bits wide, and half of that leaves room for sums.
const maxSlotBytes = 1 << 31

// maxEntryBytes bounds one batch, far above what a produce request may hold.
const maxEntryBytes = 1 << 30

// slotEncoder lays entries out as slots of one life. It is owned by one goroutine; its scratch space is reused.
type slotEncoder struct {
	cluster Cluster
	life    Life
	// prev is the digest of the slot encoded last.
	prev Digest
	// last is where each partition's previous chunk lies.
	last map[protocol.PartitionID]int64

	index map[protocol.PartitionID]int32
	// run[i] is the chunk of entry i; order lists the entries by chunk.
	run   []int32
	order []int32
	first []int32
	// crc joins entries and chunks, tailCRC an entry's two parts: each meets the same length again and again.
	crc, tailCRC crc32c.Joiner
	memory       *memory.Pool
}

func newSlotEncoder(c Cluster, l Life, m *memory.Pool) slotEncoder {
	return slotEncoder{
		cluster: c, life: l, memory: m,
		last:  map[protocol.PartitionID]int64{},
		index: map[protocol.PartitionID]int32{},
	}
}

// data encodes entries as slot seq. Batches of one partition become one chunk, in their order. The object's first reference
// is the caller's.
func (e *slotEncoder) data(seq int64, entries []Entry) (object *Object, chunks []Chunk, h Header) {
	chunks = e.plan(seq, entries)
	pos := uint32(HeaderLen)
	for i := range chunks {
		chunks[i].Pos = pos
		pos += chunks[i].Len
	}
	h = Header{
		Cluster: e.cluster, Life: e.life, Seq: seq, Kind: KindData, Prev: e.prev,
		BodyLen: pos - HeaderLen, DirPos: pos, DirLen: uint32(len(chunks)) * chunkLen, DirCount: uint32(len(chunks)),
	}
	object = &Object{}
	object.refs.Store(1)
	own := e.gather(object, entries, int(h.DirLen))
	head, own := cutOff(own, HeaderLen)
	object.add(head)
	for _, i := range e.order {
		en := &entries[i]
		c := &chunks[e.run[i]]
		data := en.Data
		if !en.stays() {
			data, own = cutOff(own, len(en.Data))
			copy(data, en.Data)
		}
		c.CRC = e.crc.Join(c.CRC, e.sum(en, data), len(data))
		object.add(data)
	}
	directory := own
	clear(directory)
	for i := range chunks {
		chunks[i].put(directory[i*chunkLen:])
	}
	object.add(directory)
	clear(head)
	h.put(head)
	h.finish(head, directory)
	object.crc = e.crcOf(head, chunks, directory)
	e.prev = h.Digest
	return object, chunks, h
}

// gather returns memory for the header, the entries that do not stay where they are, and the directory, and lets the
// object hold what it points at.
func (e *slotEncoder) gather(object *Object, entries []Entry, directory int) []byte {
	size := HeaderLen + directory
	for i := range entries {
		if en := &entries[i]; en.stays() {
			object.hold(en.Block)
		} else {
			size += len(en.Data)
		}
	}
	block := e.memory.Get(size)
	object.own(block)
	return block.Bytes()
}

func cutOff(b []byte, n int) (head, rest []byte) { return b[:n], b[n:] }

// sum returns the checksum of an entry, from what is known of it if it is long. data is the entry as it will be stored.
func (e *slotEncoder) sum(en *Entry, data []byte) uint32 {
	if en.TailLen < crc32c.JoinMin {
		return crc32.Checksum(data, castagnoli)
	}
	return e.tailCRC.Join(crc32.Checksum(data[:len(data)-en.TailLen], castagnoli), en.TailCRC, en.TailLen)
}

// crcOf returns the checksum of the whole object.
func (e *slotEncoder) crcOf(head []byte, chunks []Chunk, directory []byte) uint32 {
	crc := crc32.Checksum(head, castagnoli)
	for i := range chunks {
		crc = e.crc.Join(crc, chunks[i].CRC, int(chunks[i].Len))
	}
	return crc32.Update(crc, castagnoli, directory)
}

// plan groups entries into chunks without positions and remembers in run which entry goes where. A partition gets a
// second chunk when its leader epoch changes (a chunk has one) or its offsets go back (for its reader to judge).
func (e *slotEncoder) plan(seq int64, entries []Entry) []Chunk {
	clear(e.index)
	e.run = e.run[:0]
	var chunks []Chunk
	for i := range entries {
		en := &entries[i]
		r, known := e.index[en.Partition]
		if !known || chunks[r].LeaderEpoch != en.LeaderEpoch || en.BaseOffset <= chunks[r].LastOffset {
			r = int32(len(chunks))
			chunks = append(chunks, e.newChunk(seq, en))
			e.index[en.Partition] = r
		}
		c := &chunks[r]
		c.LastOffset = en.LastOffset
		c.MaxTimestamp = max(c.MaxTimestamp, en.MaxTimestamp)
		c.Len += uint32(len(en.Data))
		e.run = append(e.run, r)
	}
	e.sort(len(chunks))
	return chunks
}

// sort fills order by counting: chunk by chunk, the entries of each as they came.
func (e *slotEncoder) sort(chunks int) {
	e.first = append(e.first[:0], make([]int32, chunks+1)...)
	for _, r := range e.run {
		e.first[r+1]++
	}
	for r := range chunks {
		e.first[r+1] += e.first[r]
	}
	e.order = append(e.order[:0], e.run...)
	for i, r := range e.run {
		e.order[e.first[r]] = int32(i)
		e.first[r]++
	}
}

func (e *slotEncoder) newChunk(seq int64, en *Entry) Chunk {
	prev, ok := e.last[en.Partition]
	if !ok {
		prev = -1
	}
	e.last[en.Partition] = seq
	return Chunk{
		Partition: en.Partition, LeaderEpoch: en.LeaderEpoch, BaseOffset: en.BaseOffset, PrevSlot: prev,
		MaxTimestamp: en.MaxTimestamp,
	}
}

// close encodes the owner's CLOSE as slot seq (W8).
func (e *slotEncoder) close(seq int64) (*Object, Header) {
	b, h := encodeEnd(Header{Cluster: e.cluster, Life: e.life, Seq: seq, Kind: KindClose, Prev: e.prev})
	object := NewObject(b)
	object.crc = crc32.Checksum(b, castagnoli)
	return object, h
}

// encodeEnd encodes a Seal or Close.
func encodeEnd(h Header) ([]byte, Header) {
	h.DirPos = HeaderLen
	h.Author = fitText(h.Author, authorMax)
	object := make([]byte, HeaderLen)
	h.put(object)
	h.finish(object, nil)
	return object, h
}

// DecodeSlot decodes a whole slot object and verifies all of it: header, digest, directory, and the checksum of every
// chunk. It takes time and memory linear in len(object). Errors wrap ErrCorrupt.
func DecodeSlot(object []byte) (Header, []Chunk, error) {
	h, err := DecodeHeader(object)
	if err != nil {
		return Header{}, nil, err
	}
	if uint64(len(object)) != uint64(h.DirPos)+uint64(h.DirLen) || len(object) > maxSlotBytes {
		return Header{}, nil, corruptf("slot %d has %d bytes, its header says %d+%d", h.Seq, len(object), h.DirPos, h.DirLen)
	}
	dir := object[h.DirPos:]
	if got := slotDigest(object[:HeaderLen], dir); got != h.Digest {
		return Header{}, nil, corruptf("slot %d: digest is %x, want %x", h.Seq, got, h.Digest)
	}
	chunks, err := decodeDirectory(&h, dir)
	if err != nil {
		return Header{}, nil, err
	}
	for i := range chunks {
		c := &chunks[i]
		if err := c.Check(object[c.Pos : c.Pos+c.Len]); err != nil {
			return Header{}, nil, err
		}
	}
	return h, chunks, nil
}

// decodeDirectory decodes the chunks, which must fill the body without a gap.
func decodeDirectory(h *Header, dir []byte) ([]Chunk, error) {
	if h.DirCount == 0 {
		return nil, nil
	}
	chunks := make([]Chunk, 0, h.DirCount)
	seen := make(map[protocol.PartitionID]bool, h.DirCount)
	pos := uint64(HeaderLen)
	for b := dir; len(b) > 0; b = b[chunkLen:] {
		c, err := decodeChunk(b[:chunkLen], h.Seq)
		if err != nil {
			return nil, err
		}
		switch {
		case uint64(c.Pos) != pos || pos+uint64(c.Len) > uint64(h.DirPos):
			return nil, corruptf("chunk of %s lies at %d+%d, want %d", c.Partition, c.Pos, c.Len, pos)
		case seen[c.Partition] != (c.PrevSlot == h.Seq):
			return nil, corruptf("chunk of %s in slot %d names slot %d as its predecessor", c.Partition, h.Seq, c.PrevSlot)
		}
		seen[c.Partition] = true
		pos += uint64(c.Len)
		chunks = append(chunks, c)
	}
	if pos != uint64(h.DirPos) {
		return nil, corruptf("chunks end at %d, the directory begins at %d", pos, h.DirPos)
	}
	return chunks, nil
}
