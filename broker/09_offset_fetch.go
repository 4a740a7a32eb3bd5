package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// OffsetFetch: v1-10
//
// The coordinator answers from committed state (G12).
func init() { handle(protocol.KeyOffsetFetch, (*Broker).offsetFetch) }

func (b *Broker) offsetFetch(c *call, req *kmsg.OffsetFetchRequest) {
	b.groups.OffsetFetch(req, func(resp *kmsg.OffsetFetchResponse) { c.reply(resp) })
}
