package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// Heartbeat: v0-4
//
// G10.
func init() { handle(protocol.KeyHeartbeat, (*Broker).heartbeat) }

func (b *Broker) heartbeat(c *call, req *kmsg.HeartbeatRequest) {
	b.groups.Heartbeat(req, func(resp *kmsg.HeartbeatResponse) { c.reply(resp) })
}
