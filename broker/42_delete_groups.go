package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// DeleteGroups: v0-2
//
// G15.
func init() { handle(protocol.KeyDeleteGroups, (*Broker).deleteGroups) }

func (b *Broker) deleteGroups(c *call, req *kmsg.DeleteGroupsRequest) {
	b.groups.DeleteGroups(req, func(resp *kmsg.DeleteGroupsResponse) { c.reply(resp) })
}
