package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// SyncGroup: v0-5
//
// The answer waits for the leader's assignment (G9).
func init() { handle(protocol.KeySyncGroup, (*Broker).syncGroup) }

func (b *Broker) syncGroup(c *call, req *kmsg.SyncGroupRequest) {
	drained := req.ResponseKind().(*kmsg.SyncGroupResponse)
	drained.ErrorCode = int16(protocol.CodeNotCoordinator)
	reply := c.unlessDrained(drained)
	release := c.detach() // the answer may be that of a drain, while the coordinator has still to read the request
	b.groups.SyncGroup(req, func() {
		release()
		c.letGo()
	}, func(resp *kmsg.SyncGroupResponse) { reply(resp) })
}
