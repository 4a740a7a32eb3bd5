package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/controller"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

// control runs this broker's controller until ctx ends.
func (b *Broker) control(ctx context.Context, r *metadata.Registration) error {
	metrics, err := controller.NewMetrics(b.reg)
	if err == nil {
		err = registerLoads(b.reg, &b.load)
	}
	if err != nil {
		return fmt.Errorf("register the controller's metrics: %w", err)
	}
	return controller.New(controller.Config{
		LoadsEvery: b.loadPace.look, RestFor: b.loadPace.rest, Metrics: metrics,
		Self: b.life, Cluster: b.meta, Campaign: r.Campaign, LeaseTTL: metadata.DefaultLeaseTTL, Logger: b.log,
		Sweep: b.meta.Sweep, Refuses: refuses, LogEnd: b.logEnd,
		Seal: func(ctx context.Context, life wal.Life) error {
			_, err := b.seal(ctx, life)
			return err
		},
	}).Run(ctx)
}

// seal ends the log of a life (S2-S6).
func (b *Broker) seal(ctx context.Context, life wal.Life) (wal.Recovery, error) {
	return wal.Seal(ctx, b.store, b.meta, life, wal.SealOptions{Cluster: b.cluster, Name: "broker " + strconv.Itoa(int(b.life.Broker)), Logger: b.log})
}

// refuses reports whether a broker's address refuses connections.
func refuses(ctx context.Context, at metadata.BrokerInfo) bool {
	d := net.Dialer{Timeout: livenessTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port))))
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// logEnd finds the last slot of a life's log that the bucket lists. It tells whether the log grows; where it ends only a sealer can say.
func (b *Broker) logEnd(ctx context.Context, life wal.Life, trim int64) (int64, error) {
	first := wal.SlotKey(life, 0)
	prefix := first[:strings.LastIndexByte(first, '/')+1]
	last := trim - 1
	for info, err := range b.store.List(ctx, prefix, wal.SlotKey(life, max(trim-1, 0))) {
		if err != nil {
			return 0, err
		}
		if seq, err := strconv.ParseInt(strings.TrimPrefix(info.Key, prefix), 10, 64); err == nil {
			last = max(last, seq)
		}
	}
	return last, nil
}

// planState is the image as placement sees it, always with this broker, whose lease etcd may have lost.
func (b *Broker) planState() controller.State {
	img := b.meta.Image()
	s := controller.StateOf(img)
	if img.Brokers[b.life.Broker].Life != b.life {
		s.Brokers = append(s.Brokers, controller.Broker{Life: b.life, Rack: b.info.Rack})
	}
	return s
}

// notOpen are lives that may own nothing new.
type notOpen map[wal.Life]bool

// endedLogs asks etcd which of the registered lives are not OPEN: the liveness key of a broker that was killed outlasts its log when the
// broker is back at once and has ended it. This life is not among them: if it has ended, nothing here helps.
func (b *Broker) endedLogs(ctx context.Context) notOpen {
	ended := notOpen{}
	for _, other := range b.meta.Image().Brokers {
		if other.Life == b.life {
			continue
		}
		st, err := b.meta.Load(ctx, other.Life)
		if errors.Is(err, metadata.ErrUnknownLife) || err == nil && st.Phase != wal.PhaseOpen {
			ended[other.Life] = true
		}
		if ctx.Err() != nil {
			break
		}
	}
	return ended
}

// placeState is the image as placement sees it, without lives that may own nothing new.
func (b *Broker) placeState(without notOpen) controller.State {
	s := b.planState()
	s.Brokers = slices.DeleteFunc(s.Brokers, func(o controller.Broker) bool { return without[o.Life] })
	return s
}

// placeTopics chooses the owners of new topics' partitions: where an operator wants them, else evenly.
func (b *Broker) placeTopics(specs []metadata.TopicSpec, without notOpen) func(spec int, i int32) wal.Life {
	placer, v := controller.NewPlacer(b.placeState(without)), b.view()
	owners := make([][]wal.Life, len(specs))
	for k, spec := range specs {
		owners[k] = v.pinned(placer.Place(int(max(spec.Partitions, 0))), spec.Replicas, without)
		placer.Add(owners[k])
	}
	return func(spec int, i int32) wal.Life { return owners[spec][i] }
}

// placePartitions chooses the owners of partitions that are added to a topic.
func (b *Broker) placePartitions(id protocol.TopicID, from, to int32, replicas [][]int32, without notOpen) func(i int32) wal.Life {
	owners := b.view().pinned(controller.Place(b.placeState(without), id, int(to-from)), replicas, without)
	return func(i int32) wal.Life { return owners[i-from] }
}

// pinned replaces the owners of new partitions by those that an operator wants, as far as there are not too many together: the others are
// pinned too, and a preferred election brings them there. replicas, if any, name the brokers for each.
func (v *view) pinned(owners []wal.Life, replicas [][]int32, without notOpen) []wal.Life {
	chosen := map[wal.Life]bool{}
	for i := range replicas {
		to, ok := v.taker(replicas[i])
		if !ok || without[to] {
			to = owners[i]
		}
		if len(chosen) == controller.OwnersMax && !chosen[to] {
			to = owners[i%controller.OwnersMax]
		}
		owners[i], chosen[to] = to, true
	}
	return owners
}
