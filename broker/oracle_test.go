package broker

import (
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// oracle is the address of an Apache Kafka to hold the expectations of rule tests against, whose topics they delete:
//
//	TIDEMILL_ORACLE=127.0.0.1:9092 go test ./broker -run Rules
//
// Tests of this broker alone, and those that restart it, are skipped then.
var oracle = os.Getenv("TIDEMILL_ORACLE")

// serve starts a broker for a test of rules, or takes the oracle for one.
func serve(t *testing.T, args ...string) *testBroker {
	t.Helper()
	if oracle == "" {
		return startBroker(t, args...)
	}
	b := &testBroker{t: t, kafka: oracle}
	c := dial(t, b.kafka)
	all := kmsg.NewPtrMetadataRequest()
	all.Version = 1
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TimeoutMillis = 1, 10_000
	for _, topic := range ask[*kmsg.MetadataResponse](c, all).Topics {
		if !topic.IsInternal {
			del.TopicNames = append(del.TopicNames, *topic.Topic)
		}
	}
	ask[*kmsg.DeleteTopicsResponse](c, del)
	return b
}

// restart stops the broker in order and starts it again on its data. Its clients have to dial again.
func (b *testBroker) restart(t *testing.T) {
	t.Helper()
	skipOracle(t, "it restarts the broker")
	b.shutdown()
	b.start()
}

// skipOracle skips the rest of a test that the oracle cannot take.
func skipOracle(t *testing.T, why string) {
	t.Helper()
	if oracle != "" {
		t.Skipf("not for the oracle: %s", why)
	}
}

// settle waits until a topic that was just created takes requests: Kafka answers its creation before that.
func (c *rawClient) settle(topic string, partitions int32) {
	c.t.Helper()
	if oracle == "" {
		return
	}
	for p := range max(partitions, 1) {
		waitFor(c.t, "the leader of "+topic, func() bool { return listed(c, listRequest(topic, p, latestOffset)).ErrorCode == 0 })
	}
}
