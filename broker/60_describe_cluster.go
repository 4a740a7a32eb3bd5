package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// DescribeCluster: v0-2
//
// Only the broker endpoint exists: there is no controller listener to describe.
func init() { handle(protocol.KeyDescribeCluster, (*Broker).describeCluster) }

func (b *Broker) describeCluster(c *call, req *kmsg.DescribeClusterRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.ClusterID, resp.EndpointType = v.img.Cluster.ID, req.EndpointType
	resp.ControllerID, resp.ClusterAuthorizedOperations = -1, noOperations
	switch {
	case req.Version >= 1 && req.EndpointType == 2:
		resp.ErrorCode = int16(protocol.CodeMismatchedEndpointType)
		resp.ErrorMessage = kmsg.StringPtr("The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
	case req.Version >= 1 && req.EndpointType != 1:
		resp.ErrorCode = int16(protocol.CodeUnsupportedEndpointType)
		resp.ErrorMessage = kmsg.StringPtr("Unsupported endpoint type")
	default:
		resp.ControllerID = v.self
		if req.IncludeClusterAuthorizedOperations {
			resp.ClusterAuthorizedOperations = clusterOperations
		}
		for _, broker := range v.brokers {
			out := kmsg.NewDescribeClusterResponseBroker()
			out.NodeID, out.Host, out.Port, out.Rack = broker.id, broker.Host, broker.Port, rackPtr(broker.Rack)
			resp.Brokers = append(resp.Brokers, out)
		}
	}
	c.reply(resp)
}
