package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/coordinator/group"
	"github.com/tidemill/tidemill/protocol"
)

// JoinGroup: v0-9
//
// The answer waits for the rebalance (G1-G8). The protocol metadata is opaque for every protocol type.
func init() { handle(protocol.KeyJoinGroup, (*Broker).joinGroup) }

func (b *Broker) joinGroup(c *call, req *kmsg.JoinGroupRequest) {
	client := group.Client{ID: c.clientID(), Host: c.clientHost()}
	drained := req.ResponseKind().(*kmsg.JoinGroupResponse)
	drained.ErrorCode, drained.Generation = int16(protocol.CodeNotCoordinator), -1
	reply := c.unlessDrained(drained)
	b.groups.JoinGroup(req, client, func(resp *kmsg.JoinGroupResponse) { reply(resp) })
	c.letGo() // joins that wait must not use up what admits other requests
}
