package broker

import (
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// oracle is the address of an Apache Kafka to hold the expectations of tests against that call serve. They delete its topics.
// What any broker can be asked is in package conformance instead.
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
