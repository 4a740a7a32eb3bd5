package nullbroker

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store keeps the batch that records is and returns its base offset, or an error code.
func (b *Broker) store(topic string, i int32, records []byte) (base int64, code int16) {
	const header, lengthOverhead, magic = 61, 12, 2
	p := b.partition(topic, i)
	switch {
	case p == nil:
		return -1, errUnknownTopic
	case len(records) < header, len(records) > len(b.arena.mem)/4, records[16] != magic,
		int(binary.BigEndian.Uint32(records[8:]))+lengthOverhead != len(records),
		binary.BigEndian.Uint32(records[17:]) != crc32.Checksum(records[21:], castagnoli):
		return -1, errCorruptMessage
	}
	return p.append(b.arena, records), 0
}

// produce stores and answers in version 9.
func (c *conn) produce(correlation uint32, req *kmsg.ProduceRequest) {
	out := append(c.answer.out, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, correlation)
	out = append(out, 0)
	out = binary.AppendUvarint(out, uint64(len(req.Topics))+1)
	for i := range req.Topics {
		t := &req.Topics[i]
		out = appendString(out, t.Topic)
		out = binary.AppendUvarint(out, uint64(len(t.Partitions))+1)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			base, code := c.broker.store(t.Topic, p.Partition, p.Records)
			out = binary.BigEndian.AppendUint32(out, uint32(p.Partition))
			out = binary.BigEndian.AppendUint16(out, uint16(code))
			out = binary.BigEndian.AppendUint64(out, uint64(base))
			out = binary.BigEndian.AppendUint64(out, ^uint64(0)) // log append time: the producer's counts
			out = binary.BigEndian.AppendUint64(out, 0)          // log start
			out = append(out, 1, 0, 0)                           // no record errors, no message, no tags
		}
		out = append(out, 0)
	}
	out = append(out, 0, 0, 0, 0, 0) // throttle time, tags
	if req.Acks == 0 {
		return
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	c.answer.out = out
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))+1), s...)
}

// fetch answers in version 12, without a session, when the bytes asked for are there or the time is over.
func (c *conn) fetch(correlation uint32, req *kmsg.FetchRequest) {
	var timer *time.Timer
	for {
		failed := c.tryFetch(correlation, req)
		if c.answer.size >= int(req.MinBytes) || failed || req.MaxWaitMillis <= 0 {
			return
		}
		if timer == nil {
			timer = time.NewTimer(time.Duration(req.MaxWaitMillis) * time.Millisecond)
			defer timer.Stop()
		}
		c.wakeAtEnds(req)
		select {
		case <-c.wake:
		case <-timer.C:
			return
		}
		c.answer.reset()
	}
}

func (c *conn) wakeAtEnds(req *kmsg.FetchRequest) {
	for _, t := range req.Topics {
		for _, asked := range t.Partitions {
			if p := c.broker.partition(t.Topic, asked.Partition); p != nil {
				p.wakeAt(asked.FetchOffset, c.wake)
			}
		}
	}
}

// tryFetch makes the answer that can be given now, and returns whether a partition failed.
func (c *conn) tryFetch(correlation uint32, req *kmsg.FetchRequest) (failed bool) {
	answer := &c.answer
	out := append(answer.out, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, correlation)
	out = append(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // header's tags, throttle time, error, session
	out = binary.AppendUvarint(out, uint64(len(req.Topics))+1)
	for i := range req.Topics {
		t := &req.Topics[i]
		out = appendString(out, t.Topic)
		out = binary.AppendUvarint(out, uint64(len(t.Partitions))+1)
		for j := range t.Partitions {
			v, code := c.read(t.Topic, &t.Partitions[j], int(req.MaxBytes)-answer.size, answer.size == 0)
			failed = failed || code != 0
			out = binary.BigEndian.AppendUint32(out, uint32(t.Partitions[j].Partition))
			out = binary.BigEndian.AppendUint16(out, uint16(code))
			out = binary.BigEndian.AppendUint64(out, uint64(v.next))  // high watermark
			out = binary.BigEndian.AppendUint64(out, uint64(v.next))  // last stable offset
			out = binary.BigEndian.AppendUint64(out, uint64(v.start)) // log start
			out = append(out, 0)                                      // no aborted transactions
			out = binary.BigEndian.AppendUint32(out, ^uint32(0))      // no preferred replica
			out = binary.AppendUvarint(out, uint64(v.bytes)+1)
			if v.bytes > 0 {
				answer.cuts = append(answer.cuts, cut{len(out), v.pieces})
				answer.size += v.bytes
			}
			out = append(out, 0)
		}
		out = append(out, 0)
	}
	out = append(out, 0)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4+answer.size))
	answer.out = out
	return failed
}

// read reads one partition within the request's remaining bytes.
func (c *conn) read(topic string, asked *kmsg.FetchRequestTopicPartition, rest int, first bool) (view, int16) {
	p := c.broker.partition(topic, asked.Partition)
	if p == nil {
		return view{start: -1, next: -1}, errUnknownTopic
	}
	if rest <= 0 && !first {
		start, next := p.bounds(c.broker.arena)
		return view{start: start, next: next}, 0
	}
	v := p.read(c.broker.arena, asked.FetchOffset, min(int(asked.PartitionMaxBytes), rest))
	if v.outOfRange {
		return v, errOffsetOutOfRange
	}
	return v, 0
}
