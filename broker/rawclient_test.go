package broker

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// A rawClient speaks the protocol without a client library's opinions: any version, any bytes, one connection.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	name string
	corr int32
}

func dial(t *testing.T, addr string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rawClient{t: t, conn: conn, name: "raw"}
}

// send writes a request with the version that it carries and returns its correlation id.
func (c *rawClient) send(req kmsg.Request) int32 {
	c.t.Helper()
	c.corr++
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.name))
	c.sendBytes(f.AppendRequest(nil, req, c.corr))
	return c.corr
}

func (c *rawClient) sendBytes(frame []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(frame); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads one response frame and returns its correlation id and what follows.
func (c *rawClient) receive() (int32, []byte, error) {
	c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	var size [4]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		return 0, nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.conn, frame); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(frame)), frame[4:], nil
}

// ask sends a request and decodes its answer.
func ask[R kmsg.Response](c *rawClient, req kmsg.Request) R {
	c.t.Helper()
	return answer[R](c, req, c.send(req))
}

// answer decodes the next response, which must be that of req.
func answer[R kmsg.Response](c *rawClient, req kmsg.Request, corr int32) R {
	c.t.Helper()
	got, body, err := c.receive()
	if err != nil {
		c.t.Fatalf("no answer to %T v%d: %v", req, req.GetVersion(), err)
	}
	if got != corr {
		c.t.Fatalf("answer %d came where %d was due", got, corr)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && resp.Key() != int16(protocol.KeyAPIVersions) {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("answer to %T v%d: %v", req, req.GetVersion(), err)
	}
	return resp.(R)
}

// checkClosed makes sure that the broker closes the connection without another byte.
func (c *rawClient) checkClosed() {
	c.t.Helper()
	_, body, err := c.receive()
	if err == nil {
		c.t.Fatalf("got an answer of %d bytes, want a closed connection", len(body))
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the connection stays open")
	}
}

// createTopic makes a topic through the protocol and returns its id.
func (c *rawClient) createTopic(name string, partitions int32, configs ...string) protocol.TopicID {
	c.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 7, 10_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = configs[i], &configs[i+1]
		topic.Configs = append(topic.Configs, cfg)
	}
	req.Topics = append(req.Topics, topic)
	resp := ask[*kmsg.CreateTopicsResponse](c, req)
	if code := protocol.ErrorCode(resp.Topics[0].ErrorCode); code != protocol.CodeNone {
		c.t.Fatalf("create %s: %v", name, code)
	}
	c.settle(name, partitions)
	return resp.Topics[0].TopicID
}

// produceRequest carries one partition's records.
func produceRequest(version int16, topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 10_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// produce sends one batch and returns its partition's answer.
func (c *rawClient) produce(topic string, partition int32, records []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return ask[*kmsg.ProduceResponse](c, produceRequest(11, topic, partition, records)).Topics[0].Partitions[0]
}

// batchOf makes a batch of records with the given values, without keys, stamped now.
func batchOf(values ...string) record.Batch {
	var b record.Builder
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), nil, []byte(v))
	}
	return b.Build()
}

// withProducer makes a batch one of an idempotent producer's.
func withProducer(b record.Batch, id int64, epoch int16, sequence int32) record.Batch {
	binary.BigEndian.PutUint64(b[43:], uint64(id))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[53:], uint32(sequence))
	return resealed(b)
}

// resealed gives a batch that was changed the right checksum.
func resealed(b record.Batch) record.Batch {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// fetchRequest reads one partition from an offset, without waiting.
func fetchRequest(version int16, topic string, id protocol.TopicID, partition int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxBytes, req.SessionEpoch = version, -1, 50<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = topic, id, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// wantCode compares an error code.
func wantCode(t *testing.T, what string, got int16, want protocol.ErrorCode) {
	t.Helper()
	if protocol.ErrorCode(got) != want {
		t.Errorf("%s: got %v, want %v", what, protocol.ErrorCode(got), want)
	}
}
