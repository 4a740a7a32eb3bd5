package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// OffsetDelete: v0
//
// Partitions that a live member subscribes to are refused (KIP-496).
func init() { handle(protocol.KeyOffsetDelete, (*Broker).offsetDelete) }

func (b *Broker) offsetDelete(c *call, req *kmsg.OffsetDeleteRequest) {
	b.groups.OffsetDelete(req, func(resp *kmsg.OffsetDeleteResponse) { c.reply(resp) })
}
