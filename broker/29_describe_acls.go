package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// DescribeAcls: v1-3
//
// There is no authorizer, and clients that copy or list rules take this answer for that (M14).
func init() { handle(protocol.KeyDescribeACLs, (*Broker).describeACLs) }

func (b *Broker) describeACLs(c *call, req *kmsg.DescribeACLsRequest) {
	resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
	resp.ErrorCode = int16(protocol.CodeSecurityDisabled)
	resp.ErrorMessage = kmsg.StringPtr("No Authorizer is configured on the broker")
	c.reply(resp)
}
