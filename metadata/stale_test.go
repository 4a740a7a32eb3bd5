package metadata

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// holdingLog holds whoever logs to it until it is released: a watch that met something that it does not understand.
type holdingLog struct {
	slog.Handler
	held, release chan struct{}
}

func (h *holdingLog) Enabled(context.Context, slog.Level) bool { return true }

func (h *holdingLog) Handle(context.Context, slog.Record) error {
	h.held <- struct{}{}
	<-h.release
	return nil
}

// TestStaleIsSeen: who is told that its Image is stale has a newer one by then.
func TestStaleIsSeen(t *testing.T) {
	quick, log := open(t), &holdingLog{Handler: slog.DiscardHandler, held: make(chan struct{}), release: make(chan struct{})}
	slow := openWith(t, func(c *Config) { c.Logger = slog.New(log) })
	id := create(t, quick, "t", 1, newLife(t, quick)).ID
	slow.until(t.Context(), func(i *Image) bool { return i.TopicsByID[id] != nil })
	want := map[string]string{"k": "v"}
	topicRev := func(s *Store) int64 { return s.Image().TopicsByID[id].Rev }
	brokerRev := func(s *Store) int64 { return s.Image().BrokerConfigs[1].Rev }
	for name, tc := range map[string]struct {
		rev func(s *Store) int64
		set func(s *Store, rev int64) error
	}{
		"topic":  {topicRev, func(s *Store, rev int64) error { return s.SetTopicConfigs(t.Context(), id, want, rev) }},
		"broker": {brokerRev, func(s *Store, rev int64) error { return s.SetBrokerConfigs(t.Context(), 1, want, rev) }},
	} {
		t.Run(name, func(t *testing.T) {
			must[*clientv3.PutResponse](t)(quick.client.Put(t.Context(), quick.keys.topics()+"garbage", "garbage"))
			<-log.held
			before := tc.rev(slow)
			if err := tc.set(quick, tc.rev(quick)); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(200*time.Millisecond, func() { log.release <- struct{}{} })
			if err := tc.set(slow, before); !errors.Is(err, ErrStale) || tc.rev(slow) != tc.rev(quick) {
				t.Errorf("%v at %d, the record is at %d", err, tc.rev(slow), tc.rev(quick))
			}
		})
	}
}
