package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// LeaveGroup: v0-5
//
// G13.
func init() { handle(protocol.KeyLeaveGroup, (*Broker).leaveGroup) }

func (b *Broker) leaveGroup(c *call, req *kmsg.LeaveGroupRequest) {
	b.groups.LeaveGroup(req, func(resp *kmsg.LeaveGroupResponse) { c.reply(resp) })
}
