package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/conformance"
	"github.com/tidemill/tidemill/protocol"
)

// TestConfigsAfterRestart: dynamic configs are cluster state; static ones are said to be static.
func TestConfigsAfterRestart(t *testing.T) {
	b := startBroker(t, "--kafka", "log.retention.ms=111", "--kafka", "group.min.session.timeout.ms=7000", "--kafka", "group.max.session.timeout.ms=9000")
	c := dial(t, b.kafka)
	c.createTopic("t", 1, "segment.ms", "777")
	wantCode(t, "alter", altered(c, conformance.BrokerResource, "", alterSet("message.max.bytes", "2000000")), protocol.CodeNone)
	b.restart(t)
	c = dial(t, b.kafka)
	got := conformance.DescribedAs(c.Client, conformance.TopicResource, "t")
	for name, want := range map[string]string{
		"segment.ms":        "777 source=1 type=5 segment.ms=777@1",
		"retention.ms":      "111 source=4 type=5 log.retention.ms=111@4 log.retention.hours=168@5",
		"max.message.bytes": "2000000 source=3 type=3 message.max.bytes=2000000@3 message.max.bytes=1048588@5",
	} {
		if s := conformance.Shown(got[name]); s != want {
			t.Errorf("%s\ngot  %s\nwant %s", name, s, want)
		}
	}
	committed(c, "g", "t", 0)
	for timeout, want := range map[int32]protocol.ErrorCode{
		6999: protocol.CodeInvalidSessionTimeout, 9001: protocol.CodeInvalidSessionTimeout, 7000: protocol.CodeMemberIDRequired, 9000: protocol.CodeMemberIDRequired,
	} {
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 5, "g", "test", timeout, 10_000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p"}}
		wantCode(t, fmt.Sprintf("G0: session timeout of %d ms", timeout), ask[*kmsg.JoinGroupResponse](c, join).ErrorCode, want)
	}
}
