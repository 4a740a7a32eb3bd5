package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// A rawClient is the client of the conformance tests, under the names of this package's.
type rawClient struct {
	*conformance.Client
	t *testing.T
}

func dial(t *testing.T, addr string) *rawClient {
	t.Helper()
	return &rawClient{conformance.Dial(t, addr), t}
}

func (c *rawClient) send(req kmsg.Request) int32     { c.t.Helper(); return c.Send(req) }
func (c *rawClient) sendBytes(frame []byte)          { c.t.Helper(); c.SendBytes(frame) }
func (c *rawClient) receive() (int32, []byte, error) { return c.Receive() }
func (c *rawClient) checkClosed()                    { c.t.Helper(); c.CheckClosed() }

func ask[R kmsg.Response](c *rawClient, req kmsg.Request) R {
	c.t.Helper()
	return conformance.Ask[R](c.Client, req)
}

func answer[R kmsg.Response](c *rawClient, req kmsg.Request, corr int32) R {
	c.t.Helper()
	return conformance.Answer[R](c.Client, req, corr)
}

// createTopic makes a topic and returns its id. Here it takes requests at once.
func (c *rawClient) createTopic(name string, partitions int32, configs ...string) protocol.TopicID {
	c.t.Helper()
	resp := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec(name, partitions, configs...)))
	if code := protocol.ErrorCode(resp.Topics[0].ErrorCode); code != protocol.CodeNone {
		c.t.Fatalf("create %s: %v", name, code)
	}
	if oracle != "" {
		c.Settle(name, partitions)
	}
	return resp.Topics[0].TopicID
}

func (c *rawClient) produce(topic string, partition int32, records []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return c.Produce(topic, partition, records)
}

func fetched(c *rawClient, req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	return conformance.Fetched(c.Client, req)
}

func listed(c *rawClient, req *kmsg.ListOffsetsRequest) kmsg.ListOffsetsResponseTopicPartition {
	c.t.Helper()
	return conformance.Listed(c.Client, req)
}

func deletedRecords(c *rawClient, topic string, partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
	c.t.Helper()
	return conformance.DeletedRecords(c.Client, topic, partition, offset)
}

func committed(c *rawClient, group, topic string, offset int64) int16 {
	c.t.Helper()
	return conformance.Committed(c.Client, group, topic, offset)
}

func committedOffset(c *rawClient, group, topic string) int64 {
	c.t.Helper()
	return conformance.CommittedOffset(c.Client, group, topic)
}

func altered(c *rawClient, kind kmsg.ConfigResourceType, name string, ops ...conformance.AlterOp) int16 {
	c.t.Helper()
	return conformance.Altered(c.Client, kind, name, ops...)
}

// Requests and batches of the conformance tests.
var (
	produceRequest  = conformance.ProduceRequest
	fetchRequest    = conformance.FetchRequest
	listRequest     = conformance.ListRequest
	epochRequest    = conformance.EpochRequest
	metadataRequest = conformance.MetadataRequest
	createRequest   = conformance.CreateRequest
	createSpec      = conformance.TopicSpec
	deleteRequest   = conformance.DeleteRequest
	alterSet        = conformance.AlterSet
	batchOf         = conformance.BatchOf
	batchesOf       = conformance.BatchesOf
	withProducer    = conformance.WithProducer
	resealed        = conformance.Resealed
	wantCode        = conformance.WantCode
)

// awaitBrokers waits until the broker knows n brokers.
func (c *rawClient) awaitBrokers(n int) {
	c.t.Helper()
	waitFor(c.t, "the brokers to know each other", func() bool {
		return len(ask[*kmsg.MetadataResponse](c, metadataRequest(12)).Brokers) == n
	})
}
