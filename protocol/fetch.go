package protocol

import (
	"encoding/binary"
	"net"
)

// A FetchResponse is what kmsg.FetchResponse is, less what only followers read, in a form that is sent without copying
// records: Encode puts headers and the batches' own memory side by side. Versions 4 to 16.
type FetchResponse struct {
	ThrottleMillis int32
	ErrorCode      ErrorCode
	SessionID      int32
	Topics         []FetchTopic
	// NodeEndpoints is sent from version 16 on (KIP-951).
	NodeEndpoints []NodeEndpoint
}

// A FetchTopic is named up to version 12 and has an id from version 13 on.
type FetchTopic struct {
	Name       string
	ID         TopicID
	Partitions []FetchPartition
}

// A FetchPartition is the answer for one partition. Use NewFetchPartition: zero is a meaning of most fields.
type FetchPartition struct {
	Partition        int32
	ErrorCode        ErrorCode
	HighWatermark    int64
	LastStableOffset int64
	LogStartOffset   int64
	// DivergingEpoch is sent from version 12 on unless it is the default, epoch -1 and offset -1.
	DivergingEpoch EpochEnd
	// CurrentLeader is sent from version 12 on unless it is the default, -1 and -1.
	CurrentLeader LeaderEpoch
	// AbortedTransactions is null on the wire if nil.
	AbortedTransactions  []AbortedTransaction
	PreferredReadReplica int32
	// Batches are whole record batches, sent back to back; without any, the records are empty, not null, as consumers expect.
	Batches [][]byte
}

// An EpochEnd says where a leader epoch ended.
type EpochEnd struct {
	Epoch     int32
	EndOffset int64
}

// A LeaderEpoch says who leads.
type LeaderEpoch struct{ LeaderID, LeaderEpoch int32 }

// An AbortedTransaction tells a read_committed consumer what to skip.
type AbortedTransaction struct{ ProducerID, FirstOffset int64 }

// A NodeEndpoint is where a leader named in the response can be reached. An empty Rack is null.
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   string
}

var (
	noEpochEnd = EpochEnd{Epoch: -1, EndOffset: -1}
	noLeader   = LeaderEpoch{LeaderID: -1, LeaderEpoch: -1}
)

// NewFetchPartition returns an answer with Kafka's defaults: offsets, epochs and nodes are -1. It is an error's answer once
// its ErrorCode is set.
func NewFetchPartition(partition int32) FetchPartition {
	return FetchPartition{
		Partition:            partition,
		HighWatermark:        -1,
		LastStableOffset:     -1,
		LogStartOffset:       -1,
		DivergingEpoch:       noEpochEnd,
		CurrentLeader:        noLeader,
		PreferredReadReplica: -1,
	}
}

// Size returns the bytes of all batches.
func (p *FetchPartition) Size() int {
	n := 0
	for _, b := range p.Batches {
		n += len(b)
	}
	return n
}

// Encode returns the whole frame: size, header and body. Batches are in it by reference and must not change until it was
// written.
func (r *FetchResponse) Encode(correlationID int32, version int16) net.Buffers {
	e := fetchEncoder{version: version, flexible: flexible(int16(KeyFetch), version)}
	e.buf = make([]byte, 0, r.sizeHint())
	e.int32(0)
	e.int32(correlationID)
	e.emptyTags()
	e.int32(r.ThrottleMillis)
	if version >= 7 {
		e.int16(int16(r.ErrorCode))
		e.int32(r.SessionID)
	}
	e.count(len(r.Topics))
	for i := range r.Topics {
		e.topic(&r.Topics[i])
	}
	if e.flexible {
		e.endpoints(r.NodeEndpoints)
	}
	return e.finish()
}

// sizeHint is close to what everything but the batches takes.
func (r *FetchResponse) sizeHint() int {
	n := 64
	for i := range r.Topics {
		n += 32 + len(r.Topics[i].Name) + 96*len(r.Topics[i].Partitions)
	}
	return n
}

// A fetchEncoder writes headers into one growing buffer and notes where batches belong.
type fetchEncoder struct {
	version  int16
	flexible bool
	buf      []byte
	cuts     []cut
	size     int
}

// A cut says that data comes after the first at bytes of the headers.
type cut struct {
	at   int
	data [][]byte
}

func (e *fetchEncoder) int16(v int16)    { e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(v)) }
func (e *fetchEncoder) int32(v int32)    { e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(v)) }
func (e *fetchEncoder) int64(v int64)    { e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(v)) }
func (e *fetchEncoder) uvarint(v uint64) { e.buf = binary.AppendUvarint(e.buf, v) }

func (e *fetchEncoder) emptyTags() {
	if e.flexible {
		e.buf = append(e.buf, 0)
	}
}

// count writes an array's count or the length of bytes.
func (e *fetchEncoder) count(n int) {
	if e.flexible {
		e.uvarint(uint64(n) + 1)
		return
	}
	e.int32(int32(n))
}

func (e *fetchEncoder) topic(t *FetchTopic) {
	switch {
	case e.version >= 13:
		e.buf = append(e.buf, t.ID[:]...)
	case e.flexible:
		e.count(len(t.Name))
		e.buf = append(e.buf, t.Name...)
	default:
		e.int16(int16(len(t.Name)))
		e.buf = append(e.buf, t.Name...)
	}
	e.count(len(t.Partitions))
	for i := range t.Partitions {
		e.partition(&t.Partitions[i])
	}
	e.emptyTags()
}

func (e *fetchEncoder) partition(p *FetchPartition) {
	e.int32(p.Partition)
	e.int16(int16(p.ErrorCode))
	e.int64(p.HighWatermark)
	e.int64(p.LastStableOffset)
	if e.version >= 5 {
		e.int64(p.LogStartOffset)
	}
	e.aborted(p.AbortedTransactions)
	if e.version >= 11 {
		e.int32(p.PreferredReadReplica)
	}
	size := p.Size()
	e.count(size)
	if size > 0 {
		e.cuts = append(e.cuts, cut{at: len(e.buf), data: p.Batches})
		e.size += size
	}
	if e.flexible {
		e.partitionTags(p)
	}
}

func (e *fetchEncoder) aborted(txns []AbortedTransaction) {
	switch {
	case txns != nil:
		e.count(len(txns))
	case e.flexible:
		e.uvarint(0)
	default:
		e.int32(-1)
	}
	for _, t := range txns {
		e.int64(t.ProducerID)
		e.int64(t.FirstOffset)
		e.emptyTags()
	}
}

// partitionTags writes tags 0 and 1, each with its size: an epoch and an offset, or two int32, and their own empty tags.
func (e *fetchEncoder) partitionTags(p *FetchPartition) {
	diverging, leader := p.DivergingEpoch != noEpochEnd, p.CurrentLeader != noLeader
	n := uint64(0)
	if diverging {
		n++
	}
	if leader {
		n++
	}
	e.uvarint(n)
	if diverging {
		e.buf = append(e.buf, 0, 13)
		e.int32(p.DivergingEpoch.Epoch)
		e.int64(p.DivergingEpoch.EndOffset)
		e.emptyTags()
	}
	if leader {
		e.buf = append(e.buf, 1, 9)
		e.int32(p.CurrentLeader.LeaderID)
		e.int32(p.CurrentLeader.LeaderEpoch)
		e.emptyTags()
	}
}

// endpoints writes the body's tags: tag 0 from version 16 on.
func (e *fetchEncoder) endpoints(nodes []NodeEndpoint) {
	if e.version < 16 || len(nodes) == 0 {
		e.uvarint(0)
		return
	}
	tag := fetchEncoder{version: e.version, flexible: true}
	tag.count(len(nodes))
	for _, n := range nodes {
		tag.int32(n.NodeID)
		tag.count(len(n.Host))
		tag.buf = append(tag.buf, n.Host...)
		tag.int32(n.Port)
		if n.Rack == "" {
			tag.uvarint(0)
		} else {
			tag.count(len(n.Rack))
			tag.buf = append(tag.buf, n.Rack...)
		}
		tag.emptyTags()
	}
	e.buf = append(e.buf, 1, 0)
	e.uvarint(uint64(len(tag.buf)))
	e.buf = append(e.buf, tag.buf...)
}

// finish fills in the size and lays out headers and batches in order.
func (e *fetchEncoder) finish() net.Buffers {
	binary.BigEndian.PutUint32(e.buf, uint32(len(e.buf)-4+e.size))
	out := make(net.Buffers, 0, 2*len(e.cuts)+1)
	from := 0
	for _, c := range e.cuts {
		out = append(out, e.buf[from:c.at:c.at])
		out = append(out, c.data...)
		from = c.at
	}
	return append(out, e.buf[from:])
}
