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
	include := req.IncludeAuthorizedOperations
	b.groups.DescribeGroups(req, func(resp *kmsg.DescribeGroupsResponse) {
		for i := range resp.Groups {
			g := &resp.Groups[i]
			g.AuthorizedOperations = noOperations
			if include && g.ErrorCode == 0 {
				g.AuthorizedOperations = groupOperations
			}
		}
		c.reply(resp)
	})
}
