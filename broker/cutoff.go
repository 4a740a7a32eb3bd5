package broker

import (
	"context"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// cutOffEvery is how often brokers that are cut off from etcd are asked whether they live, and how long they have for the answer.
const cutOffEvery = time.Second

// watchCutOff looks for brokers that own partitions and answer clients though their lease in etcd has ended: they lead on until their logs are
// ended, and clients that come now have to be told of them. One that does not answer is not told of, so that clients look for the next.
func (b *Broker) watchCutOff(ctx context.Context) {
	tick := time.NewTicker(cutOffEvery)
	defer tick.Stop()
	for {
		found := map[int32]metadata.BrokerInfo{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for id, info := range goneOwners(b.meta.Image()) {
			if id == b.life.Broker {
				continue
			}
			all.Go(func() {
				if servesKafka(ctx, info) {
					mu.Lock()
					found[id] = info
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if was := b.cutOff.Load(); was == nil && len(found) > 0 || was != nil && !maps.Equal(*was, found) {
			b.cutOff.Store(&found) // the next view is made anew
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// goneOwners returns the brokers that own partitions and are not registered any more.
func goneOwners(img *metadata.Image) map[int32]metadata.BrokerInfo {
	if len(img.Gone) == 0 {
		return nil
	}
	owners := map[int32]metadata.BrokerInfo{}
	forEachPartition(img, func(_ *metadata.Topic, _ protocol.PartitionID, p metadata.Partition) {
		if b, gone := img.Gone[p.Owner.Broker]; gone && b.Life == p.Owner {
			owners[p.Owner.Broker] = b.BrokerInfo
		}
	})
	return owners
}

// apiVersionsRequest is the smallest request of Kafka's: ApiVersions v0 without a client id.
var apiVersionsRequest = []byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff}

// servesKafka reports whether a broker answers. That a connection is taken says little: the kernel does it for a process that is frozen.
func servesKafka(ctx context.Context, at metadata.BrokerInfo) bool {
	ctx, cancel := context.WithTimeout(ctx, cutOffEvery)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port))))
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(apiVersionsRequest); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, make([]byte, 8))
	return err == nil
}
