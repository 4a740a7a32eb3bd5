package partition

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// DecodeManifest decodes and validates what Encode returned, in time and memory linear in len(b). Errors wrap ErrCorrupt. The result
// shares no memory with b.
func DecodeManifest(b []byte) (*Manifest, error) {
	be := binary.BigEndian
	if err := checkPart(b, manifestMagic, manifestFixedLen); err != nil {
		return nil, err
	}
	if be.Uint64(b[88:]) != 0 {
		return nil, corruptf("reserved bytes of a manifest are set")
	}
	m := &Manifest{
		Partition:         partitionAt(b[12:]),
		Version:           int64(be.Uint64(b[32:])),
		LogStart:          int64(be.Uint64(b[40:])),
		EndOffset:         int64(be.Uint64(b[48:])),
		CoordinatorOffset: int64(be.Uint64(b[56:])),
	}
	var counts [6]uint64
	for i := range counts {
		counts[i] = uint64(be.Uint32(b[64+4*i:]))
	}
	p := part{b: b[manifestFixedLen : len(b)-4]}
	m.Lives = p.lives(counts[0])
	m.Epochs = p.epochs(counts[1])
	m.Producers = p.producers(counts[2])
	m.Pages = decodeEach(&p, counts[3], pageRefLen, getPageRef)
	m.Extents = decodeEach(&p, counts[4], extentLen, getExtent)
	if blob := p.take(counts[5], 1); len(blob) > 0 {
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
	if err := checkPages(m.Pages, len(m.Lives)); err != nil {
		return err
	}
	first := m.EndOffset
	if len(m.Extents) > 0 {
		first = m.Extents[0].Base
	}
	if len(m.Pages) > 0 {
		if first != m.Pages[len(m.Pages)-1].Last+1 {
			return corruptf("pages end at %d, extents begin at %d", m.Pages[len(m.Pages)-1].Last, first)
		}
	}
	end, err := checkExtents(m.Extents, first, len(m.Lives))
	if err != nil {
		return err
	}
	if len(m.Pages) > 0 {
		first = m.Pages[0].Base
	}
	if first < 0 || first > m.LogStart || end != m.EndOffset {
		return corruptf("extents cover %d to %d, want log start %d to end %d", first, end, m.LogStart, m.EndOffset)
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

// decodePage decodes and validates a page of partition id. The extents' lives index the returned table.
func decodePage(b []byte, id protocol.PartitionID) ([]Extent, []wal.Life, error) {
	be := binary.BigEndian
	if err := checkPart(b, pageMagic, pageFixedLen); err != nil {
		return nil, nil, err
	}
	if got := partitionAt(b[12:]); got != id {
		return nil, nil, corruptf("page of partition %v, want %v", got, id)
	}
	p := part{b: b[pageFixedLen : len(b)-4]}
	lives := p.lives(uint64(be.Uint32(b[32:])))
	extents := decodeEach(&p, uint64(be.Uint32(b[36:])), extentLen, getExtent)
	if p.short || len(p.b) != 0 || len(extents) == 0 || len(extents) > pageExtentsMax {
		return nil, nil, corruptf("page of %d bytes with %d extents", len(b), len(extents))
	}
	if extents[0].Base < 0 {
		return nil, nil, corruptf("page begins at offset %d", extents[0].Base)
	}
	if _, err := checkExtents(extents, extents[0].Base, len(lives)); err != nil {
		return nil, nil, err
	}
	return extents, lives, nil
}

func checkPart(b []byte, magic string, fixed int) error {
	be := binary.BigEndian
	switch {
	case len(b) < fixed+4:
		return corruptf("%s part of %d bytes is shorter than its fixed fields", magic, len(b))
	case string(b[:4]) != magic:
		return corruptf("magic is %q, want %q", b[:4], magic)
	case be.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli):
		return corruptf("%s checksum mismatch", magic)
	case be.Uint16(b[4:]) != manifestFormat || be.Uint16(b[6:]) != 0:
		return corruptf("%s format is %d, want %d", magic, be.Uint32(b[4:]), manifestFormat)
	case uint64(be.Uint32(b[8:])) != uint64(len(b)):
		return corruptf("%s of %d bytes says %d", magic, len(b), be.Uint32(b[8:]))
	}
	return nil
}

func partitionAt(b []byte) protocol.PartitionID {
	return protocol.PartitionID{Topic: protocol.TopicID(b[:16]), Partition: int32(binary.BigEndian.Uint32(b[16:]))}
}

// part consumes the variable fields of a manifest or page. Counts are held against the bytes that remain before anything is allocated.
type part struct {
	b     []byte
	short bool
}

func (p *part) take(n, size uint64) []byte {
	if p.short || n*size > uint64(len(p.b)) {
		p.short = true
		return nil
	}
	b := p.b[:n*size]
	p.b = p.b[n*size:]
	return b
}

func decodeEach[T any](p *part, n uint64, size int, get func([]byte) T) []T {
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

func (p *part) lives(n uint64) []wal.Life {
	return decodeEach(p, n, lifeLen, func(b []byte) wal.Life {
		be := binary.BigEndian
		return wal.Life{Broker: int32(be.Uint32(b)), Epoch: be.Uint64(b[4:]), Nonce: [8]byte(b[12:lifeLen])}
	})
}

func (p *part) epochs(n uint64) []Epoch {
	return decodeEach(p, n, epochLen, func(b []byte) Epoch {
		be := binary.BigEndian
		return Epoch{Epoch: int32(be.Uint32(b)), Life: be.Uint32(b[4:]), Start: int64(be.Uint64(b[8:]))}
	})
}

func (p *part) producers(n uint64) []Producer {
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
