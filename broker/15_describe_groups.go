package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// DescribeGroups: v0-6
//
// G15.
func init() { handle(protocol.KeyDescribeGroups, (*Broker).describeGroups) }

func (b *Broker) describeGroups(c *call, req *kmsg.DescribeGroupsRequest) {
	b.groups.DescribeGroups(req, func(resp *kmsg.DescribeGroupsResponse) { c.reply(resp) })
}
