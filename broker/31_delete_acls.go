package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// DeleteAcls: v1-3
//
// M14.
func init() { handle(protocol.KeyDeleteACLs, (*Broker).deleteACLs) }

func (b *Broker) deleteACLs(c *call, req *kmsg.DeleteACLsRequest) {
	resp := req.ResponseKind().(*kmsg.DeleteACLsResponse)
	for range req.Filters {
		out := kmsg.NewDeleteACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = int16(protocol.CodeSecurityDisabled), kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	c.reply(resp)
}
