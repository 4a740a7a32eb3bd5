package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// OffsetCommit: v2-10
//
// The coordinator answers once the offsets are durable (G11).
func init() { handle(protocol.KeyOffsetCommit, (*Broker).offsetCommit) }

func (b *Broker) offsetCommit(c *call, req *kmsg.OffsetCommitRequest) {
	b.groups.OffsetCommit(req, func(resp *kmsg.OffsetCommitResponse) { c.reply(resp) })
}
