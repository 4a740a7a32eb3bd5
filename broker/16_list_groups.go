package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// ListGroups: v0-5
//
// Only groups of the shards that are owned here; clients ask every broker (G15).
func init() { handle(protocol.KeyListGroups, (*Broker).listGroups) }

func (b *Broker) listGroups(c *call, req *kmsg.ListGroupsRequest) {
	b.groups.ListGroups(req, func(resp *kmsg.ListGroupsResponse) { c.reply(resp) })
}
