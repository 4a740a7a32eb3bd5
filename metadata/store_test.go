package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/metadata/etcdembed"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// shared is one etcd for all tests that do not stop it; each test has a cluster of its own in it.
var shared *etcdembed.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "metadata-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if shared, err = etcdembed.Start(context.Background(), dir, nil); err != nil {
			panic(err)
		}
		defer shared.Close()
		return m.Run()
	}())
}

func openWith(t *testing.T, change func(*Config)) *Store {
	t.Helper()
	c := Config{
		Endpoints: shared.Endpoints(), Name: strings.ReplaceAll(t.Name(), "/", "-"), Timeout: time.Minute, // however slow the disk is
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&c)
	}
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func open(t *testing.T) *Store { t.Helper(); return openWith(t, nil) }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newLife(t *testing.T, s *Store) wal.Life {
	t.Helper()
	return must[wal.Life](t)(s.OpenLife(t.Context(), 1))
}

func seal(t *testing.T, s *Store, l wal.Life, n int64) wal.StreamState {
	t.Helper()
	st := must[wal.StreamState](t)(s.Load(t.Context(), l))
	must[wal.StreamState](t)(s.BeginSeal(t.Context(), l, st.Rev, "test"))
	return must[wal.StreamState](t)(s.FinishSeal(t.Context(), l, n, [32]byte{1}, "recovery/x"))
}

func allOwnedBy(l wal.Life) func(int, int32) wal.Life { return func(int, int32) wal.Life { return l } }

func ownedBy(l wal.Life) func(int32) wal.Life { return func(int32) wal.Life { return l } }

func create(t *testing.T, s *Store, name string, n int32, l wal.Life) *Topic {
	t.Helper()
	r := s.CreateTopics(t.Context(), []TopicSpec{{Name: name, Partitions: n, ReplicationFactor: 3}}, allOwnedBy(l))
	return must[*Topic](t)(r[0].Topic, r[0].Err)
}

var errInjected = errors.New("injected: connection reset")

// faults answers the next write transactions with an error, before or after they were applied.
type faults struct {
	kvAPI
	before, after atomic.Int32
	lost          func() // is called when a write is not applied
}

func (f *faults) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	writes := false
	if op.IsTxn() {
		_, then, _ := op.Txn()
		for _, o := range then {
			writes = writes || o.IsPut() || o.IsDelete()
		}
	}
	if writes && f.before.Add(-1) >= 0 {
		// As far as the caller can tell the request has left.
		if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
			sent.Store(true)
		}
		if f.lost != nil {
			f.lost()
		}
		return clientv3.OpResponse{}, errInjected
	}
	r, err := f.kvAPI.Do(ctx, op)
	if writes && f.after.Add(-1) >= 0 {
		return clientv3.OpResponse{}, errInjected
	}
	return r, err
}

func openFaulty(t *testing.T) (*Store, *faults) {
	f := &faults{}
	s := openWith(t, func(c *Config) {
		c.wrapKV = func(kv kvAPI) kvAPI { f.kvAPI = kv; return f }
	})
	return s, f
}

// TestLostAnswers runs every method with its first write not applied, and applied but answered with an error.
func TestLostAnswers(t *testing.T) {
	for _, mode := range []string{"not applied", "applied"} {
		t.Run(mode, func(t *testing.T) {
			s, f := openFaulty(t)
			fault := func() {
				if mode == "applied" {
					f.after.Store(1)
				} else {
					f.before.Store(1)
				}
			}
			ctx := t.Context()
			fault()
			a := must[Cluster](t)(s.EnsureCluster(ctx))
			if b := must[Cluster](t)(s.EnsureCluster(ctx)); a != b || len(a.ID) != 22 || s.Image().Cluster != a {
				t.Errorf("cluster: got %v, then %v, image %v", a, b, s.Image().Cluster)
			}
			fault()
			l1 := newLife(t, s)
			if l2 := newLife(t, s); l1.Epoch != 1 || l2.Epoch != 2 {
				t.Errorf("epochs: got %d and %d, want 1 and 2", l1.Epoch, l2.Epoch)
			}
			fault()
			reg := must[*Registration](t)(s.Register(ctx, l1, BrokerInfo{Host: "h", Port: 1}))
			if got := s.Image().Brokers[1]; got.Life != l1 || got.Host != "h" {
				t.Errorf("registration: image has %v", got)
			}
			if err := reg.Unregister(ctx); err != nil {
				t.Error(err)
			}
			fault()
			first := must[int64](t)(s.AllocateProducerIDs(ctx, 10))
			if next := must[int64](t)(s.AllocateProducerIDs(ctx, 10)); next != first+10 {
				t.Errorf("producer ids: got %d after %d", next, first)
			}
			lostTopicAnswers(t, s, fault, l1)
			lostLifeAnswers(t, s, fault, l1)
			if f.before.Load() > 0 || f.after.Load() > 0 {
				t.Error("a fault was never met")
			}
		})
	}
}

func lostTopicAnswers(t *testing.T, s *Store, fault func(), l wal.Life) {
	ctx := t.Context()
	fault()
	topic := create(t, s, "a", 3, l)
	if got := s.Image().Topics["a"]; got == nil || got.ID != topic.ID || len(got.Partitions) != 3 || got.Partitions[2].Owner != l || got.Rev != topic.Rev {
		t.Fatalf("create: image has %+v, want %+v", got, topic)
	}
	fault()
	if err := s.CreatePartitions(ctx, topic.ID, 3, 5, ownedBy(l), nil); err != nil || len(s.Image().Topics["a"].Partitions) != 5 {
		t.Errorf("create partitions: %v", err)
	}
	fault()
	if err := s.SetTopicConfigs(ctx, topic.ID, map[string]string{"k": "v"}, s.Image().Topics["a"].Rev); err != nil {
		t.Error(err)
	}
	if err := s.SetTopicConfigs(ctx, topic.ID, nil, topic.Rev); !errors.Is(err, ErrStale) {
		t.Errorf("set configs at an old revision: %v", err)
	}
	fault()
	if err := s.SetBrokerConfigs(ctx, DefaultBroker, map[string]string{"x": "y"}, 0); err != nil {
		t.Error(err)
	}
	if s.Image().Topics["a"].Configs["k"] != "v" || s.Image().BrokerConfigs[DefaultBroker].Values["x"] != "y" {
		t.Error("configs are not in the image")
	}
	up := []ManifestUpdate{{ID: protocol.PartitionID{Topic: topic.ID}, Pointer: ManifestPointer{Version: 1, Key: "m"}}}
	fault()
	if err := s.CommitManifests(ctx, l, up); err != nil {
		t.Error(err)
	}
	up[0].Pointer.Version = 3
	up[0].PrevVersion = 2
	if err := s.CommitManifests(ctx, l, up); !errors.Is(err, ErrStale) {
		t.Errorf("manifest on a wrong version: %v", err)
	}
	fault()
	if err := s.DeleteTopic(ctx, topic.ID); err != nil || s.Image().Topics["a"] != nil {
		t.Errorf("delete: %v", err)
	}
	if err := s.DeleteTopic(ctx, topic.ID); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("delete again: %v", err)
	}
	if r := must[*clientv3.GetResponse](t)(s.client.Get(ctx, s.keys.parts(topic.ID), clientv3.WithPrefix())); r.Count != 0 {
		t.Errorf("%d partition records remain", r.Count)
	}
}

func lostLifeAnswers(t *testing.T, s *Store, fault func(), l wal.Life) {
	ctx := t.Context()
	topic := create(t, s, "b", 50, l)
	to := newLife(t, s)
	st := must[wal.StreamState](t)(s.Load(ctx, l))
	fault()
	if err := s.Trim(ctx, l, st.Rev, 7); err != nil {
		t.Error(err)
	}
	fault()
	sealing := must[wal.StreamState](t)(s.BeginSeal(ctx, l, st.Rev, "me"))
	if sealing.Phase != wal.PhaseSealing || sealing.Sealer != "me" || sealing.Trim != 7 {
		t.Errorf("begin: got %+v", sealing)
	}
	if err := s.Trim(ctx, l, sealing.Rev, 8); !errors.Is(err, ErrStale) {
		t.Errorf("trim while SEALING: %v", err)
	}
	if err := s.Claim(ctx, to, claimsOf(t, s, l, to)); !errors.Is(err, ErrStale) {
		t.Errorf("claim while SEALING: %v", err)
	}
	fault()
	sealed := must[wal.StreamState](t)(s.FinishSeal(ctx, l, 9, [32]byte{9}, "recovery"))
	if sealed.Phase != wal.PhaseSealed || sealed.N != 9 || sealed.Digest != [32]byte{9} || sealed.RecoveryKey != "recovery" {
		t.Errorf("finish: got %+v", sealed)
	}
	if err := s.Trim(ctx, l, sealed.Rev, 10); !errors.Is(err, ErrStale) {
		t.Errorf("trim beyond the end: %v", err)
	}
	if err := s.Trim(ctx, l, sealed.Rev, 9); err != nil {
		t.Error(err)
	}
	claims := claimsOf(t, s, l, to)
	fault()
	if err := s.Claim(ctx, to, claims); err != nil {
		t.Fatal(err)
	}
	for i, p := range s.Image().TopicsByID[topic.ID].Partitions {
		if p.Owner != to || p.LeaderEpoch != 1 {
			t.Errorf("partition %d: image has %+v", i, p)
		}
	}
	if err := s.Claim(ctx, to, claims); !errors.Is(err, ErrStale) {
		t.Errorf("claim twice: %v", err)
	}
}

func claimsOf(t *testing.T, s *Store, old, to wal.Life) []Claim {
	t.Helper()
	var claims []Claim
	for _, p := range must[[]PartitionState](t)(s.Partitions(t.Context())) {
		if p.Owner == old {
			claims = append(claims, Claim{
				ID: p.ID, Rev: p.Rev, ManifestRev: p.ManifestRev, OldLife: old, LeaderEpoch: p.LeaderEpoch + 1, Start: 5,
				History:  append(p.History, EpochStart{p.LeaderEpoch + 1, 5, to}),
				Manifest: &ManifestPointer{Version: 1, Key: fmt.Sprint("m", p.ID.Partition)},
			})
		}
	}
	return claims
}

func TestUnknownOutcome(t *testing.T) {
	s, f := openFaulty(t)
	f.before.Store(1000)
	ctx, cancel := context.WithCancel(t.Context())
	f.lost = cancel
	if _, err := s.OpenLife(ctx, 1); !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	base := Config{Endpoints: shared.Endpoints(), Name: "x"}
	old := base
	old.serverVersion = func(context.Context, *clientv3.Client, string) (string, error) { return "3.4.30", nil }
	gone := base
	gone.Endpoints = []string{"127.0.0.1:1"}
	for name, tc := range map[string]struct {
		config Config
		want   error
		text   string
	}{
		"too old":     {old, ErrTooOld, "3.4.30"},
		"unreachable": {gone, ErrUnreachable, "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), tc.config)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v naming %s", err, tc.want, tc.text)
			}
		})
	}
}
