package outagetest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/internal/ledger"
)

// produceVersion is that of the flood's requests.
const produceVersion = 11

// floodConns is over how many connections a flood comes: a broker reads only so far ahead on each.
const floodConns = 8

// Flood sends n requests with one record of size bytes each without mercy: as fast as its connections take them, never
// waiting for an answer, which Finish does. A client library would hold most of them back. It may be called once.
func (l *Load) Flood(n, size int) {
	l.t.Helper()
	for i := range floodConns {
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(3 * patience)); err != nil {
			l.t.Fatal(err)
		}
		l.flooding.Go(func() { // its errors are the reader's to tell
			formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("flood"))
			for j := i; j < n; j += floodConns {
				value := make([]byte, size)
				copy(value, floodName(j))
				frame := formatter.AppendRequest(nil, produceRequest(int32(j%partitions), value), int32(j))
				if _, err := conn.Write(frame); err != nil {
					return
				}
			}
		})
		l.flooding.Go(func() {
			for j := i; j < n; j += floodConns {
				if err := l.answer(conn, floodName(j)); err != nil {
					l.flooded((n-j+floodConns-1)/floodConns, err)
					return
				}
			}
		})
	}
}

func floodName(i int) string { return fmt.Sprintf("flood-%0*d", nameSize-len("flood-"), i) }

// flooded notes that n answers never came.
func (l *Load) flooded(n int, err error) {
	if !l.o.Restarts {
		l.books.Fail("flood: %d answers never came: %v", n, err)
	}
}

// answer reads the next answer and enters it in the books.
func (l *Load) answer(conn net.Conn, name string) error {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, frame); err != nil {
		return err
	}
	answer := kmsg.NewPtrProduceResponse()
	answer.Version = produceVersion
	if err := answer.ReadFrom(frame[5:]); err != nil { // behind the correlation id and no tags
		return err
	}
	p := answer.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return err
	}
	l.books.Ack(ledger.Place{Topic: Plain, Partition: p.Partition, Offset: p.BaseOffset}, name)
	l.acked[1].Add(1)
	return nil
}

func produceRequest(partition int32, value []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, -1, int32((2 * patience).Milliseconds())
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batchOf(value)
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = Plain, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return req
}

// batchOf makes a record batch of one record.
func batchOf(value []byte) []byte {
	now := time.Now().UnixMilli()
	record := kmsg.Record{Value: value}
	record.Length = int32(len(record.AppendTo(nil)) - 1) // a length of 0 takes one byte
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: record.AppendTo(nil),
	}
	b := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
