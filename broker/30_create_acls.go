package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// CreateAcls: v1-3
//
// M14.
func init() { handle(protocol.KeyCreateACLs, (*Broker).createACLs) }

// noAuthorizer is what Kafka says to a change of rules that nothing would heed.
const noAuthorizer = "No Authorizer is configured."

func (b *Broker) createACLs(c *call, req *kmsg.CreateACLsRequest) {
	resp := req.ResponseKind().(*kmsg.CreateACLsResponse)
	for range req.Creations {
		out := kmsg.NewCreateACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = int16(protocol.CodeSecurityDisabled), kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	c.reply(resp)
}
