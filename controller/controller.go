package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// Cluster is agreed state as the controller uses it; metadata.Store is one.
type Cluster interface {
	Image() *metadata.Image
	Changed() <-chan struct{}
	Load(ctx context.Context, life wal.Life) (wal.StreamState, error)
	Assign(ctx context.Context, by metadata.Controller, intents []metadata.Intent) (int, error)
	// Loads returns what brokers have measured, by id.
	Loads(ctx context.Context) (map[int32]metadata.BrokerLoads, error)
	// Silence is for how long etcd has answered nothing.
	Silence() time.Duration
}

// Config is what a controller works with. Its functions may block until ctx ends.
type Config struct {
	// Self is the life of the broker that the controller runs in.
	Self    wal.Life
	Cluster Cluster
	// Campaign makes this broker the controller if there is none.
	Campaign func(ctx context.Context) (metadata.Controller, bool, error)
	// Seal ends the log of a life (S2-S6).
	Seal func(ctx context.Context, life wal.Life) error
	// Refuses reports whether a broker's address refuses connections: then its process is gone, which no silence can tell.
	Refuses func(ctx context.Context, at metadata.BrokerInfo) bool
	// LogEnd returns the number of the last slot of a life's log from a trim point on, or less.
	LogEnd func(ctx context.Context, life wal.Life, trim int64) (int64, error)
	// Sweep removes what interrupted creations and deletions of topics left in etcd. A controller does it when it takes office and every
	// hour.
	Sweep func(ctx context.Context) error
	// LeaseTTL is that of liveness keys.
	LeaseTTL time.Duration
	// LoadsEvery is how often loads are read; 0: 30 s, as they are published.
	LoadsEvery time.Duration
	// RestFor is how long a partition that was moved for balance is not moved for its load, and how long a new controller, who does not
	// know what was moved lately, moves nothing for loads; 0: 10 min, in which smoothed loads become what they are.
	RestFor time.Duration
	// Plan is what an operator may choose.
	Plan Options
	// Metrics are what operators see of it; nil: nothing.
	Metrics *Metrics
	Logger  *slog.Logger
}

const (
	// lookEvery is how often the controller looks though nothing has changed.
	lookEvery = time.Second
	// planPause lets a burst of changes be planned for together.
	planPause = 20 * time.Millisecond
)

// A Controller watches for brokers that die and plans where partitions go, while its broker holds the office. Every broker runs one.
type Controller struct {
	Config
	suspects suspects
	// planned is told when a log has ended, so that its partitions are planned for at once.
	planned chan struct{}

	mu sync.Mutex
	// sealed are the lives whose logs have ended, as far as this controller asked.
	sealed map[wal.Life]bool
	// waits are the partitions that plans wait for, while this broker is the controller.
	waits waits
	// term is what is known of loads since this broker is the controller; nil when it is not.
	term *term
	// sweeping is about half-made topics, while this broker is the controller.
	sweeping sweeping
}

// New returns a controller that does nothing yet.
func New(c Config) *Controller {
	c.LoadsEvery, c.RestFor = cmp.Or(c.LoadsEvery, loadsEvery), cmp.Or(c.RestFor, restFor)
	return &Controller{Config: c, planned: make(chan struct{}, 1), sealed: map[wal.Life]bool{}}
}

// Run works until ctx ends. Trouble is logged and tried again.
func (c *Controller) Run(ctx context.Context) error {
	c.suspects.init(c)
	defer c.suspects.wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := c.Cluster.Changed()
		c.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-c.planned:
		case <-changed:
			if err := pause(ctx, planPause); err != nil {
				return nil
			}
		case <-tick.C:
		}
	}
}

// look does what there is to do now.
func (c *Controller) look(ctx context.Context) {
	img := c.Cluster.Image()
	c.suspects.note(img, c.Cluster.Silence())
	office := img.Controller
	if office.Life == (wal.Life{}) && img.Brokers[c.Self.Broker].Life == c.Self {
		var elected bool
		var err error
		if office, elected, err = c.Campaign(ctx); err != nil {
			c.Logger.Warn("campaign for the controller's office failed", slog.Any("error", err))
			return
		}
		if elected {
			c.Logger.Info("this broker is the controller", slog.String("life", c.Self.String()))
		}
		img = c.Cluster.Image()
	}
	if office.Life != c.Self {
		c.suspects.drop()
		c.endTerm()
		return
	}
	c.suspects.pursue(ctx, img)
	c.sweepWhenDue(ctx)
	c.readLoads(ctx)
	c.assign(ctx, office, img)
}

// assign writes what the plan wants as intents.
func (c *Controller) assign(ctx context.Context, office metadata.Controller, img *metadata.Image) {
	state := c.state(img)
	moves := Plan(state, c.Config.Plan)
	if len(moves) == 0 {
		return
	}
	intents := make([]metadata.Intent, 0, len(moves))
	count := map[Reason]int{}
	for _, m := range moves {
		intents = append(intents, IntentOf(img, m))
		count[m.Reason]++
	}
	c.noteMoves(moves)
	n, err := c.Cluster.Assign(ctx, office, intents)
	if err != nil && !errors.Is(err, metadata.ErrStale) {
		c.Logger.Warn("plan was not written; it is made again", slog.Any("error", err))
		return
	}
	if n > 0 {
		c.Metrics.planned(count)
		c.Logger.Info("planned", slog.Int("partitions", n), slog.Any("reasons", count))
	}
}

// IntentOf is what carries out a move that was planned for an image.
func IntentOf(img *metadata.Image, m Move) metadata.Intent {
	p := img.TopicsByID[m.ID.Topic].Partitions[m.ID.Partition]
	in := metadata.Intent{ID: m.ID, To: m.To, PartRev: p.Rev}
	if m.To == m.From {
		in.To = wal.Life{}
	}
	if p.Pin != nil {
		in.PinRev = p.Pin.Rev
	}
	return in
}

// state is the image as a plan sees it.
func (c *Controller) state(img *metadata.Image) State {
	s := StateOf(img)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term.fill(&s, time.Now(), c.RestFor)
	for i := range s.Partitions {
		p := &s.Partitions[i]
		p.Orphan = c.sealed[p.Owner]
	}
	var stuck int
	c.waits, stuck = c.waits.mark(&s, time.Now())
	c.Metrics.stuck(stuck)
	return s
}

// StateOf is an image as plans see it. Whose logs have ended an image does not tell, nor what partitions cost: see LoadBook.
func StateOf(img *metadata.Image) State {
	var s State
	for _, b := range img.Brokers {
		s.Brokers = append(s.Brokers, Broker{Life: b.Life, Rack: b.Rack, Draining: b.Draining})
	}
	for id, t := range img.TopicsByID {
		for i, p := range t.Partitions {
			s.Partitions = append(s.Partitions, Partition{
				ID: protocol.PartitionID{Topic: id, Partition: int32(i)}, Owner: p.Owner, Target: p.Target, Pinned: p.Pin != nil,
			})
		}
	}
	return s
}

// ended notes that a life's log is SEALED.
func (c *Controller) ended(life wal.Life) {
	c.mu.Lock()
	c.sealed[life] = true
	c.mu.Unlock()
	select {
	case c.planned <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
