package wal

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/tidemill/tidemill/internal/memory"
)

// MaxWindow is the largest number of unresolved slots of one life (W3). Sealers rely on it: a slot this far behind an
// absent one proves that the log lost an object.
const MaxWindow = 8

// Options of a Writer. The zero value works, but Cluster should be set.
type Options struct {
	// Cluster is stamped into every slot.
	Cluster Cluster
	// Window is K, the number of slots that may be unresolved at a time: 1 to MaxWindow, default 6.
	Window int
	// SlotBytes is the body size at which a slot is cut, default 8 MiB. A slot exceeds it only to hold one larger batch.
	SlotBytes int
	// FlushInterval bounds how long a batch waits for company while other slots are in flight, default 100 ms.
	FlushInterval time.Duration
	// PutsPerSecond is the PUT budget of slots that are cut early to save latency. 0: unlimited. Full slots and the
	// flush interval (stretched to 1/PutsPerSecond) are never held up by it.
	PutsPerSecond float64
	// EagerBytes are worth a PUT beyond that budget: each so many bytes add a PUT to it, at most doubling it, and a slot of
	// that size is cut anyway, 40 times a second at most. 0: none are.
	EagerBytes int64
	// MaxOpenBytes is how much may wait uncut before Stalled, default 64 MiB.
	MaxOpenBytes int64
	// StallAfter is how long a slot may be unresolved before Stalled (W7), default 5 s.
	StallAfter time.Duration
	// AttemptTimeout bounds one PUT or GET, default 5 s.
	AttemptTimeout time.Duration
	// Windows tells how full the producers' windows are. Optional.
	Windows *Windows
	// Memory lends the memory of slots. Optional.
	Memory *memory.Pool
	// Metrics are optional.
	Metrics *Metrics
	// Random draws the pauses between attempts; default one that nobody can foresee. It is used by one goroutine.
	Random rand.Source
	// Logger defaults to slog.Default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Window <= 0 {
		o.Window = 6 // covers a 60 ms PUT with a slot each 10 ms
	}
	o.Window = min(o.Window, MaxWindow)
	if o.SlotBytes <= 0 {
		o.SlotBytes = 8 << 20 // 128 PUTs per GB, within the 150 of the design's limits
	}
	o.SlotBytes = min(o.SlotBytes, maxEntryBytes)
	if o.FlushInterval <= 0 {
		o.FlushInterval = 100 * time.Millisecond
	}
	if o.MaxOpenBytes <= 0 {
		o.MaxOpenBytes = 64 << 20 // one more window of full slots
	}
	if o.StallAfter <= 0 {
		o.StallAfter = 5 * time.Second // W7
	}
	if o.AttemptTimeout <= 0 {
		o.AttemptTimeout = 5 * time.Second // for up to 8 MiB; failures stretch it, up to eightfold
	}
	if o.Memory == nil {
		o.Memory = memory.NewPool(int64(o.SlotBytes))
	}
	if o.Random == nil {
		o.Random = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Cluster.ID = fitText(o.Cluster.ID, clusterIDMax)
	return o
}
