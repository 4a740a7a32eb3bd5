package broker

import (
	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/objectstore/storeurl"
	"github.com/tidemill/tidemill/wal"
)

// pacing is what a write profile means to the log. Its zero value sends as often as saves time.
type pacing struct {
	putsPerSecond float64
	eagerBytes    int64
	window        int // 0: the log's default
}

// pacingOf returns what the settings say for a bucket of some kind. In a folder a write costs nothing.
func pacingOf(c *config.Config, kind storeurl.Kind) pacing {
	profile := c.WriteProfile
	if profile == config.ProfileAuto {
		profile = config.ProfileFree
		if kind == storeurl.S3 {
			profile = config.ProfileLatency
		}
	}
	var p pacing
	switch profile {
	case config.ProfileLatency:
		p = pacing{putsPerSecond: wal.LatencyPutsPerSecond, eagerBytes: wal.LatencyEagerBytes, window: wal.MaxWindow}
	case config.ProfileCost:
		p = pacing{putsPerSecond: wal.CostPutsPerSecond, window: wal.MaxWindow}
	}
	if c.PutsPerSecond > 0 { // the number is meant as it is: nothing comes on top
		p.putsPerSecond, p.eagerBytes = c.PutsPerSecond, 0
	}
	return p
}
