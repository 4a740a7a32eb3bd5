package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// TestM10DeleteStaticKey: a key that may not be set at run time may be deleted all the same, as in Kafka.
func TestM10DeleteStaticKey(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	del := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "num.partitions", Op: kmsg.IncrementalAlterConfigOpDelete}
	for _, broker := range []string{"", "1"} {
		wantCode(t, "delete", altered(c, conformance.BrokerResource, broker, del), protocol.CodeNone)
		wantCode(t, "set", altered(c, conformance.BrokerResource, broker, alterSet("num.partitions", "2")), protocol.CodeInvalidRequest)
	}
}

// TestNodeIDIsTold: a broker says which it is, also when its id was not given to it.
func TestNodeIDIsTold(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	got := conformance.DescribedAs(c.Client, conformance.BrokerResource, "1")
	for name, want := range map[string]string{"node.id": "1 source=4 type=3 node.id=1@4", "broker.id": "1 source=4 type=3 broker.id=1@4 broker.id=-1@5"} {
		if s := conformance.Shown(got[name]); s != want {
			t.Errorf("%s: got %s, want %s", name, s, want)
		}
	}
}

// TestM3CollidingTopic: the topic that is in the way is named.
func TestM3CollidingTopic(t *testing.T) {
	c := dial(t, startBroker(t).kafka)
	c.createTopic("a.b_c", 1)
	resp := ask[*kmsg.CreateTopicsResponse](c, createRequest(7, createSpec("a_b.c", 1))).Topics[0]
	const want = "Topic 'a_b.c' collides with existing topic: a.b_c"
	if resp.ErrorMessage == nil || *resp.ErrorMessage != want {
		t.Errorf("got %+v, want %s", resp, want)
	}
	wantCode(t, "collision", resp.ErrorCode, protocol.CodeInvalidTopicException)
}
