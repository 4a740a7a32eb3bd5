package metadata

import (
	"github.com/tidemill/tidemill/protocol"
)

// An Image is the cluster's state at one revision. It and everything in it is immutable.
type Image struct {
	Cluster  Cluster
	Revision int64
	// Controller is zero while there is none.
	Controller Controller
	// Brokers are the registered ones, by id. Absence is a hint, not a proof, that a broker is gone.
	Brokers map[int32]Broker
	// Drains are the ids of brokers that an operator wants empty, registered or not.
	Drains map[int32]bool
	// Gone are brokers that were registered since this Store was opened and are not any more, by id. One whose life owns partitions may
	// live on, cut off from etcd.
	Gone       map[int32]Broker
	Topics     map[string]*Topic
	TopicsByID map[protocol.TopicID]*Topic
	// BrokerConfigs holds the dynamic configs by broker id; the cluster-wide default is under DefaultBroker.
	BrokerConfigs map[int32]ConfigSet

	changed chan struct{}
}

// Changed is closed when a newer Image has replaced this one.
func (i *Image) Changed() <-chan struct{} { return i.changed }
