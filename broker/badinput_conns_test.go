package broker

import (
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// TestBadInputSlowConnections: requests that come byte by byte are answered, those that stop coming close their connection,
// and nobody waits for them.
func TestBadInputSlowConnections(t *testing.T) {
	a := besiege(t)
	stalled := make([]*rawClient, 300)
	frame := frameOf(metadataOf(keptTopic), 7)
	for i := range stalled {
		stalled[i] = a.dial(t)
		stalled[i].sendBytes(frame[:1+i%(len(frame)-1)])
	}
	big := a.dial(t)
	big.sendBytes(frameOf(produceRequest(9, keptTopic, 0, make([]byte, 900<<10)), 1)[:100<<10])
	steady := a.dial(t)
	for _, b := range frame {
		steady.sendBytes([]byte{b})
	}
	if corr, _, err := steady.receive(); err != nil || corr != 7 {
		t.Errorf("a request that came byte by byte: answer %d, %v", corr, err)
	}
	for _, c := range append(stalled, big) {
		c.drain() // FrameTimeout
	}
	a.checkUnharmed(t)
}

// metadataOf asks for one topic, in version 9.
func metadataOf(topic string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 9, []kmsg.MetadataRequestTopic{{Topic: &topic}}
	return req
}

// TestBadInputHalfClosedConnections: a client that has nothing more to say is answered and then closed. One that stops
// within a frame, or is gone without a word, leaves nothing behind.
func TestBadInputHalfClosedConnections(t *testing.T) {
	a := besiege(t)
	metadata := frameOf(metadataOf(keptTopic), 7)
	park := fetchRequest(11, keptTopic, protocol.TopicID{}, 1, 0)
	park.MaxWaitMillis, park.MinBytes = 300, 1
	parked := frameOf(park, 8)
	for range 5 {
		c := a.dial(t)
		c.sendBytes(append(append([]byte(nil), metadata...), parked...))
		c.Conn.(*net.TCPConn).CloseWrite()
		for _, want := range []int32{7, 8} {
			if corr, _, err := c.receive(); err != nil || corr != want {
				t.Fatalf("answer %d, %v, want %d", corr, err, want)
			}
		}
		c.checkClosed()
	}
	forever := fetchRequest(11, keptTopic, protocol.TopicID{}, 1, 0)
	forever.MaxWaitMillis, forever.MinBytes = 1<<30, 1
	for i := range 200 {
		c := a.dial(t)
		switch i % 4 {
		case 0: // nothing was said
		case 1:
			c.sendBytes(metadata[:len(metadata)-1])
		case 2:
			c.send(forever)
		case 3:
			c.sendBytes(metadata)
		}
		c.Conn.(*net.TCPConn).SetLinger(0) // a reset, not an end
		c.Conn.Close()
	}
	a.checkUnharmed(t)
}

// TestBadInputIdleConnections: 2,000 connections that do nothing cost little, keep nobody out, and leave nothing.
func TestBadInputIdleConnections(t *testing.T) {
	a := besiege(t)
	const idle = 2000
	for i := range idle {
		c := a.dial(t)
		if i%2 == 0 {
			c.warm()
		}
	}
	if n := runtime.NumGoroutine(); n < idle+a.goroutines || n > idle+a.goroutines+goroutineSlack {
		waitLong(t, func() string {
			if n := runtime.NumGoroutine(); n > idle+a.goroutines+goroutineSlack {
				return "more than a goroutine for each idle connection"
			}
			return ""
		})
	}
	if heap := heapInUse(); heap > a.heap+heapSlack {
		t.Errorf("%d idle connections take %d MiB, both ends", idle, (heap-a.heap)>>20)
	}
	a.checkUnharmed(t)
}

// TestBadInputTags: a million tagged fields are more than any request has, wherever they are.
func TestBadInputTags(t *testing.T) {
	a := besiege(t)
	tags := func(n int) []byte {
		out := []byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}
		return append(out, make([]byte, 2*n)...) // tag 0 without a value, again and again
	}
	var wg sync.WaitGroup
	for _, place := range []string{"header", "topic", "request"} {
		frame := []byte{0, 0, 0, 0, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff} // Metadata v9
		switch place {
		case "header":
			frame = append(frame, tags(1_000_000)...)
			frame = append(frame, 1, 0, 0, 0, 0)
		case "topic":
			frame = append(frame, 0, 2, 2, 't')
			frame = append(frame, tags(1_000_000)...)
			frame = append(frame, 0, 0, 0, 0)
		case "request":
			frame = append(frame, 0, 1, 0, 0, 0)
			frame = append(frame, tags(1_000_000)...)
		}
		c := a.dial(t).warm()
		wg.Go(func() { _, _ = c.Conn.Write(resized(frame)) })
		c.checkClosed()
	}
	wg.Wait()
	a.checkUnharmed(t)
}
