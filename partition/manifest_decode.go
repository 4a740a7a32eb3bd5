package partition

import (
	"encoding/binary"

	"github.com/tidemill/tidemill/internal/crc32c"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// DecodeManifest decodes and validates what Encode returned, in time and memory linear in len(b). Errors wrap ErrCorrupt. The result
// shares no memory with b.
func DecodeManifest(b []byte) (*Manifest, error) {
	be := binary.BigEndian
	flags, err := checkRegion(b, manifestMagic, manifestFixedLen, manifestFormat)
	if err != nil {
		return nil, err
	}
	if flags != 0 {
		return nil, corruptf("reserved bytes of a manifest are set")
	}
	m := &Manifest{
		Partition:         partitionAt(b[12:]),
		Version:           int64(be.Uint64(b[32:])),
		LogStart:          int64(be.Uint64(b[40:])),
		EndOffset:         int64(be.Uint64(b[48:])),
		CoordinatorOffset: int64(be.Uint64(b[56:])),
		CompactedTo:       int64(be.Uint64(b[96:])),
	}
	var counts [8]uint64
	for i := range counts {
		counts[i] = uint64(be.Uint32(b[64+4*i:]))
	}
	p := fields{b: b[manifestFixedLen : len(b)-4]}
	m.Lives = p.lives(counts[0])
	m.Epochs = p.epochs(counts[1])
	m.Producers = p.producers(counts[2])
	m.Parts = decodeEach(&p, counts[3], partLen, getPart)
	m.Extents = decodeEach(&p, counts[4], extentLen, getExtent)
	m.Rolls = decodeEach(&p, counts[5], rollLen, getRoll)
	m.Aborted = decodeEach(&p, counts[6], abortedLen, func(b []byte) AbortedTxn {
		return AbortedTxn{ProducerID: int64(be.Uint64(b)), First: int64(be.Uint64(b[8:])), Last: int64(be.Uint64(b[16:]))}
	})
	if blob := p.take(counts[7], 1); len(blob) > 0 {
		m.Coordinator = append([]byte(nil), blob...)
	}
	if p.short || len(p.b) != 0 {
		return nil, corruptf("manifest of %d bytes does not have the length its counts ask for", len(b))
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// check holds a manifest to what every reader of it relies on.
func (m *Manifest) check() error {
	if m.Version < 1 || m.LogStart < 0 || m.EndOffset < m.LogStart || m.Partition.Partition < 0 {
		return corruptf("manifest version %d of %v with log start %d, end %d", m.Version, m.Partition, m.LogStart, m.EndOffset)
	}
	if m.CoordinatorOffset < -1 || m.CoordinatorOffset > m.EndOffset || m.CoordinatorOffset < 0 && m.Coordinator != nil {
		return corruptf("coordinator state of offset %d in a manifest that ends at %d", m.CoordinatorOffset, m.EndOffset)
	}
	for i, e := range m.Epochs {
		if i > 0 && (e.Epoch <= m.Epochs[i-1].Epoch || e.Start <= m.Epochs[i-1].Start) || e.Start < 0 || e.Start > m.EndOffset {
			return corruptf("leader epoch %d begins at %d in a manifest that ends at %d", e.Epoch, e.Start, m.EndOffset)
		}
		if int64(e.Life) >= int64(len(m.Lives)) {
			return corruptf("leader epoch of life %d of %d", e.Life, len(m.Lives))
		}
	}
	if err := m.checkProducers(); err != nil {
		return err
	}
	if err := m.checkRolls(); err != nil {
		return err
	}
	return m.checkData()
}

// checkData holds parts and extents to one run of offsets that covers the log.
func (m *Manifest) checkData() error {
	if err := checkParts(m.Parts, len(m.Lives)); err != nil {
		return err
	}
	first := m.EndOffset
	if len(m.Extents) > 0 {
		first = m.Extents[0].Base
	}
	if len(m.Parts) > 0 && first != m.Parts[len(m.Parts)-1].Last+1 {
		return corruptf("parts end at %d, extents begin at %d", m.Parts[len(m.Parts)-1].Last, first)
	}
	end, err := checkExtents(m.Extents, first)
	if err != nil {
		return err
	}
	for i := range m.Extents {
		if int64(m.Extents[i].Life) >= int64(len(m.Lives)) {
			return corruptf("extent of life %d of %d", m.Extents[i].Life, len(m.Lives))
		}
	}
	if len(m.Parts) > 0 {
		first = m.Parts[0].Base
	}
	if first < 0 || first > m.LogStart || end != m.EndOffset {
		return corruptf("extents cover %d to %d, want log start %d to end %d", first, end, m.LogStart, m.EndOffset)
	}
	return nil
}

// checkRolls holds rolls to ascending offsets of the log, the first of which covers the log start.
func (m *Manifest) checkRolls() error {
	if m.CompactedTo < 0 || m.CompactedTo > m.EndOffset {
		return corruptf("compacted up to %d in a manifest that ends at %d", m.CompactedTo, m.EndOffset)
	}
	for i, r := range m.Rolls {
		if r.Base < 0 || r.Base > m.EndOffset || r.Bytes < 0 || i > 0 && r.Base <= m.Rolls[i-1].Base || i == 0 && r.Base > m.LogStart {
			return corruptf("roll of %d bytes at %d in a log of %d to %d", r.Bytes, r.Base, m.LogStart, m.EndOffset)
		}
	}
	for i, a := range m.Aborted {
		if a.First < 0 || a.Last < a.First || a.Last >= m.EndOffset || i > 0 && a.First < m.Aborted[i-1].First {
			return corruptf("aborted transaction of offsets %d-%d", a.First, a.Last)
		}
	}
	return nil
}

func (m *Manifest) checkProducers() error {
	for i := range m.Producers {
		p := &m.Producers[i]
		if p.ID < 0 || i > 0 && p.ID <= m.Producers[i-1].ID || len(p.Batches) == 0 || len(p.Batches) > producerBatches {
			return corruptf("producer %d with %d batches", p.ID, len(p.Batches))
		}
		last := int64(-1)
		for _, b := range p.Batches {
			if b.LastSeq < 0 || b.Delta < 0 || b.LastOffset <= last || b.LastOffset-int64(b.Delta) < 0 || b.LastOffset >= m.EndOffset {
				return corruptf("batch of producer %d ends at offset %d, sequence %d", p.ID, b.LastOffset, b.LastSeq)
			}
			last = b.LastOffset
		}
	}
	return nil
}

// checkRegion checks what manifests and indexes begin and end with, and returns their flags.
func checkRegion(b []byte, magic string, fixed int, format uint16) (flags uint16, err error) {
	be := binary.BigEndian
	switch {
	case len(b) < fixed+4:
		return 0, corruptf("%s of %d bytes is shorter than its fixed fields", magic, len(b))
	case string(b[:4]) != magic:
		return 0, corruptf("magic is %q, want %q", b[:4], magic)
	case be.Uint32(b[len(b)-4:]) != crc32c.Sum(b[:len(b)-4]):
		return 0, corruptf("%s checksum mismatch", magic)
	case be.Uint16(b[4:]) != format:
		return 0, corruptf("%s format is %d, want %d", magic, be.Uint16(b[4:]), format)
	case uint64(be.Uint32(b[8:])) != uint64(len(b)):
		return 0, corruptf("%s of %d bytes says %d", magic, len(b), be.Uint32(b[8:]))
	}
	return be.Uint16(b[6:]), nil
}

func partitionAt(b []byte) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID(b[:16]), Partition: int32(binary.BigEndian.Uint32(b[16:]))}
}

// fields consumes the variable fields of a manifest or index. Counts are held against the bytes that remain before anything is allocated.
type fields struct {
	b     []byte
	short bool
}

func (p *fields) take(n, size uint64) []byte {
	if p.short || n*size > uint64(len(p.b)) {
		p.short = true
		return nil
	}
	b := p.b[:n*size]
	p.b = p.b[n*size:]
	return b
}

func decodeEach[T any](p *fields, n uint64, size int, get func([]byte) T) []T {
	b := p.take(n, uint64(size))
	if len(b) == 0 {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = get(b[i*size:])
	}
	return out
}

func (p *fields) lives(n uint64) []wal.Life {
	return decodeEach(p, n, lifeLen, lifeAt)
}

func lifeAt(b []byte) wal.Life {
	be := binary.BigEndian
	return wal.Life{Broker: int32(be.Uint32(b)), Epoch: be.Uint64(b[4:]), Nonce: [8]byte(b[12:lifeLen])}
}

func (p *fields) epochs(n uint64) []Epoch {
	return decodeEach(p, n, epochLen, func(b []byte) Epoch {
		be := binary.BigEndian
		return Epoch{Epoch: int32(be.Uint32(b)), Life: be.Uint32(b[4:]), Start: int64(be.Uint64(b[8:]))}
	})
}

func (p *fields) producers(n uint64) []Producer {
	if p.short || n*producerFixedLen > uint64(len(p.b)) {
		p.short = true
		return nil
	}
	var out []Producer
	for range n {
		b := p.take(1, producerFixedLen)
		if p.short {
			return nil
		}
		be := binary.BigEndian
		out = append(out, Producer{
			ID: int64(be.Uint64(b)), Epoch: int16(be.Uint16(b[8:])), LastWrite: int64(be.Uint64(b[12:])),
			Batches: decodeEach(p, uint64(be.Uint16(b[10:])), producerBatchLen, func(b []byte) ProducerBatch {
				return ProducerBatch{
					LastSeq: int32(be.Uint32(b)), Delta: int32(be.Uint32(b[4:])),
					LastOffset: int64(be.Uint64(b[8:])), MaxTimestamp: int64(be.Uint64(b[16:])),
				}
			}),
		})
	}
	return out
}
