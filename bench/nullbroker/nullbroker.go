// Package nullbroker is a Kafka broker that does the least a broker can: it reads frames, checks the CRC of each batch, copies
// it into a ring of memory, stamps its offset and answers. It is the yardstick of a machine: the CPU per GB of a real broker
// divided by that of the null broker is steady where absolute figures are not.
//
// Invariants: a batch is stored whole under contiguous offsets; a connection has a goroutine that reads and one that writes,
// which sends all answers that are ready in one write, in the order of the requests; nothing outlives the ring, and a fetch of what the ring has lost is
// OFFSET_OUT_OF_RANGE.
package nullbroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Options of a Broker. The zero value is ready.
type Options struct {
	// ArenaBytes is the memory for batches, default 64 MiB.
	ArenaBytes int
	// Partitions of a topic that a client asks for without having created it, default 1.
	Partitions int32
	// Plain reads each frame into memory of its own, as Go programs do that were not made for this.
	Plain bool
}

// A Broker is one null broker.
type Broker struct {
	options Options
	arena   *arena
	host    string
	port    int32

	mu     sync.Mutex
	topics map[string][]*partition
	conns  map[net.Conn]struct{}
	closed bool

	producers int64 // ids given out, under mu
}

// New makes a broker. Serve it once.
func New(o Options) (*Broker, error) {
	if o.ArenaBytes == 0 {
		o.ArenaBytes = 64 << 20
	}
	if o.Partitions == 0 {
		o.Partitions = 1
	}
	a, err := newArena(o.ArenaBytes)
	if err != nil {
		return nil, fmt.Errorf("null broker: %w", err)
	}
	return &Broker{options: o, arena: a, topics: map[string][]*partition{}, conns: map[net.Conn]struct{}{}}, nil
}

// Serve answers on ln until ctx ends, and closes ln and the broker.
func (b *Broker) Serve(ctx context.Context, ln net.Listener) error {
	host, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	b.host, b.port = host, int32(n)
	stop := context.AfterFunc(ctx, func() { b.close(ln) })
	defer stop()
	var group sync.WaitGroup
	for {
		nc, err := ln.Accept()
		if err != nil {
			b.close(ln)
			group.Wait()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return b.arena.close()
			}
			return err
		}
		if !b.enter(nc) {
			nc.Close()
			continue
		}
		group.Go(func() {
			defer b.leave(nc)
			newConn(b, nc).serve()
		})
	}
}

func (b *Broker) enter(nc net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.conns[nc] = struct{}{}
	return true
}

func (b *Broker) leave(nc net.Conn) {
	nc.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, nc)
}

func (b *Broker) close(ln net.Listener) {
	ln.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for nc := range b.conns {
		nc.Close()
	}
}

// topic returns the partitions of a topic; create makes it with that many if it is absent, 0 does not.
func (b *Broker) topic(name string, create int32) []*partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	partitions, ok := b.topics[name]
	if !ok && create > 0 {
		for range create {
			partitions = append(partitions, &partition{})
		}
		b.topics[strings.Clone(name)] = partitions // name lies in the request's frame
	}
	return partitions
}

// partition returns nil for what does not exist.
func (b *Broker) partition(topic string, i int32) *partition {
	if partitions := b.topic(topic, 0); i >= 0 && int(i) < len(partitions) {
		return partitions[i]
	}
	return nil
}
