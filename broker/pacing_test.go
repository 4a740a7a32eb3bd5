package broker

import (
	"testing"

	"github.com/tidemill/tidemill/config"
	"github.com/tidemill/tidemill/objectstore/storeurl"
	"github.com/tidemill/tidemill/wal"
)

func TestWriteProfiles(t *testing.T) {
	latency := pacing{wal.LatencyPutsPerSecond, wal.LatencyEagerBytes, wal.MaxWindow}
	cost := pacing{wal.CostPutsPerSecond, 0, wal.MaxWindow}
	for _, c := range []struct {
		profile string
		puts    float64
		kind    storeurl.Kind
		want    pacing
	}{
		{config.ProfileAuto, 0, storeurl.S3, latency},
		{config.ProfileAuto, 0, storeurl.File, pacing{}},
		{config.ProfileLatency, 0, storeurl.File, latency},
		{config.ProfileCost, 0, storeurl.S3, cost},
		{config.ProfileFree, 0, storeurl.S3, pacing{}},
		{config.ProfileLatency, 40, storeurl.S3, pacing{40, 0, wal.MaxWindow}},
		{config.ProfileAuto, 7, storeurl.File, pacing{putsPerSecond: 7}},
	} {
		if got := pacingOf(&config.Config{WriteProfile: c.profile, PutsPerSecond: c.puts}, c.kind); got != c.want {
			t.Errorf("%s with %v puts on %s: got %+v, want %+v", c.profile, c.puts, c.kind, got, c.want)
		}
	}
}
