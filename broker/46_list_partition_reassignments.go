package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// ListPartitionReassignments: v0
//
// Moving a partition is one metadata write here, so none is ever under way.
func init() {
	handle(protocol.KeyListPartitionReassignments, (*Broker).listPartitionReassignments)
}

func (b *Broker) listPartitionReassignments(c *call, req *kmsg.ListPartitionReassignmentsRequest) {
	c.reply(req.ResponseKind())
}
