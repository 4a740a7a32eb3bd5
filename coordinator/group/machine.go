package group

import (
	"github.com/tidemill/tidemill/coordinator"
)

// machine is the state of one shard.
type machine struct{ coordinator.Machine }
