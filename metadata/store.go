package metadata

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/tidemill/tidemill/wal"
)

var _ wal.Registry = (*Store)(nil)

const (
	defaultTimeout = 5 * time.Second
	// DefaultLeaseTTL is long enough that a pause or a leader change of etcd does not make brokers vanish.
	DefaultLeaseTTL = 10 * time.Second
	// reachTimeout bounds the first contact.
	reachTimeout = 5 * time.Second
	// relistEvery bounds how long a change lost by the watch stays unseen.
	relistEvery = 60 * time.Second
	// etcd drops a connection without traffic behind a dead peer only with keep-alives.
	keepAliveTime    = 5 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// redial spaces attempts to connect. gRPC's own default grows to two minutes, long after etcd is back.
var redial = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Config says where etcd is and which cluster in it is meant.
type Config struct {
	// Endpoints are etcd's client addresses.
	Endpoints []string
	// Name is the cluster's name: all keys are under /tidemill/<Name>/.
	Name string
	// TLS is how etcd is spoken to; nil is plaintext.
	TLS *tls.Config
	// Username and Password are for an etcd with authentication; empty is without.
	Username, Password string
	// Timeout bounds each call, and each batch of those that write the partitions of a topic; zero means 5 s.
	Timeout time.Duration
	// LeaseTTL is the life of a broker's liveness key without keep-alives, zero means 10 s. etcd counts whole seconds.
	LeaseTTL time.Duration
	// Logger receives what goes on in the background; nil discards it.
	Logger *slog.Logger

	relistEvery   time.Duration
	serverVersion func(ctx context.Context, c *clientv3.Client, endpoint string) (string, error)
	wrapKV        func(kvAPI) kvAPI
}

// refreshed says which revision etcd was at when a lease was refreshed, which costs it no read.
type refreshed struct {
	revision int64
	at       time.Time
}

// kvAPI is what transactions need of clientv3.KV; tests put faults in between.
type kvAPI interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error)
}

// Store reads and writes the cluster's state. All methods may be called concurrently. They stop when ctx ends or after
// Config.Timeout, whichever is first.
type Store struct {
	config Config
	keys   keys
	client *clientv3.Client
	kv     kvAPI
	image  atomic.Pointer[Image]
	opened time.Time
	// heardAt is when etcd answered last, as time since opened.
	heardAt atomic.Int64
	// openAt is when a registered life was last known to be OPEN, as time since opened.
	openAt atomic.Int64
	// refreshed is the last answer to a lease's refresh.
	refreshed atomic.Pointer[refreshed]
	// loads is what Loads read last.
	loads atomic.Pointer[readLoads]
	// waiting is how many wait for a revision, and nudge tells the watch that one more does: for loads alone it replaces no Image, so
	// that they wake nobody, unless somebody waits.
	waiting atomic.Int32
	nudge   chan struct{}

	stop    context.CancelFunc
	ctx     context.Context // ends at Close; of the background work only
	running sync.WaitGroup
}

// Open connects to etcd, checks its version, loads the first Image and keeps it current until Close.
func Open(ctx context.Context, c Config) (*Store, error) {
	if len(c.Endpoints) == 0 || c.Name == "" || strings.Contains(c.Name, "/") {
		return nil, fmt.Errorf("open metadata: want endpoints and a name without '/', got %q and %q", c.Endpoints, c.Name)
	}
	c = withDefaults(c)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
		Username:             c.Username,
		Password:             c.Password,
		DialTimeout:          reachTimeout, // bounds the login, the one thing that New waits for
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		DialOptions: []grpc.DialOption{
			grpc.WithStatsHandler(sentHandler{}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: reachTimeout}),
		},
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("open metadata at %v: %w", c.Endpoints, opening(ctx, c, err))
	}
	s := &Store{config: c, keys: keys("/tidemill/" + c.Name + "/"), client: client, kv: client.KV, opened: time.Now(), nudge: make(chan struct{}, 1)}
	if c.wrapKV != nil {
		s.kv = c.wrapKV(client.KV)
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	reach, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	st := newState(s.keys)
	if err = s.checkVersion(reach); err == nil {
		if err = s.list(ctx, st); err != nil {
			err = opening(reach, c, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.image.Store(st.image(nil))
	s.running.Go(func() { s.watch(st) })
	return s, nil
}

func withDefaults(c Config) Config {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = DefaultLeaseTTL
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.relistEvery == 0 {
		c.relistEvery = relistEvery
	}
	if c.serverVersion == nil {
		c.serverVersion = func(ctx context.Context, cl *clientv3.Client, endpoint string) (string, error) {
			r, err := cl.Status(ctx, endpoint)
			if err != nil {
				return "", err
			}
			return r.Version, nil
		}
	}
	return c
}

// checkVersion asks each endpoint until one answers: a cluster with a member down is fine.
func (s *Store) checkVersion(ctx context.Context) error {
	var last error
	per := reachTimeout / time.Duration(len(s.config.Endpoints)+1)
	for _, e := range s.config.Endpoints {
		try, cancel := context.WithTimeout(ctx, per)
		version, err := s.config.serverVersion(try, s.client, e)
		cancel()
		if err != nil {
			last = err
			continue
		}
		if !supported(version) {
			return fmt.Errorf("%w: %s runs version %s, want 3.5 or newer", ErrTooOld, e, version)
		}
		return nil
	}
	return fmt.Errorf("etcd at %s: %w", strings.Join(s.config.Endpoints, ", "), opening(ctx, s.config, last))
}

// supported reports whether an etcd version is 3.5 or newer. One that cannot be read is not.
func supported(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 3 || major == 3 && minor >= 5)
}

// Close ends the watch and all registrations, and waits. Liveness keys stay until their leases end.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close metadata: %w", err)
	}
	return nil
}

// Image returns the newest state known here. While etcd is down it is what was known last.
func (s *Store) Image() *Image { return s.image.Load() }

// Changed is closed at the next change of Image. Take it before Image to miss nothing.
func (s *Store) Changed() <-chan struct{} { return s.Image().changed }

// Silence returns for how long etcd has answered nothing. A registered broker asks it several times per Config.LeaseTTL,
// so more than that means that etcd is away.
func (s *Store) Silence() time.Duration {
	return time.Since(s.opened) - time.Duration(s.heardAt.Load())
}

// OpenAt returns the last moment at which the registered life was OPEN by what etcd has said since.
func (s *Store) OpenAt() time.Time { return s.opened.Add(time.Duration(s.openAt.Load())) }

// heard notes an answer of etcd's.
func (s *Store) heard() { s.heardAt.Store(int64(time.Since(s.opened))) }

// seen waits until the Image includes revision rev, so that a writer finds its own write there. It gives up silently with
// ctx: the write is done whether or not the watch is.
func (s *Store) seen(ctx context.Context, rev int64) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	if s.Image().Revision < rev {
		select {
		case s.nudge <- struct{}{}:
		default:
		}
	}
	s.until(ctx, func(i *Image) bool { return i.Revision >= rev })
}

func (s *Store) until(ctx context.Context, shown func(*Image) bool) {
	for {
		img := s.Image()
		if shown(img) {
			return
		}
		select {
		case <-img.changed:
		case <-ctx.Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}
