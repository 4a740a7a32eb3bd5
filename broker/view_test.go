package broker

import (
	"testing"

	"github.com/tidemill/tidemill/metadata"
)

// TestCutOffIsShown: a request makes a view while a broker is found to be cut off, and keeps it after that. The next view shows the broker.
func TestCutOffIsShown(t *testing.T) {
	b := startBroker(t).broker
	old := b.view()
	b.cutOff.Store(&map[int32]metadata.BrokerInfo{7: {Host: "h", Port: 1}})
	b.current.Store(old) // by the request
	if !b.view().alive(7) {
		t.Error("what was found is not shown, until something changes in etcd")
	}
	b.cutOff.Store(&map[int32]metadata.BrokerInfo{})
	if b.view().alive(7) {
		t.Error("a broker that is cut off no longer is shown still")
	}
}
