package broker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
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

// TestBadInputSlowReaders: clients that ask for much and read nothing hold a bounded part of memory together, and are closed
// when others need it (D11).
func TestBadInputSlowReaders(t *testing.T) {
	const memory, answers = 64 << 20, 64 << 20 / 10
	a := besiege(t, "--memory", fmt.Sprint(memory))
	c := a.dial(t)
	c.createTopic("big", 1)
	const batches = 9
	for range batches {
		wantCode(t, "produce", c.produce("big", 0, batchOf(strings.Repeat("x", 1_000_000))).ErrorCode, protocol.CodeNone)
	}
	a.stored["big-0"] = batches
	req := fetchRequest(11, "big", protocol.TopicID{}, 0, 0)
	req.Topics[0].Partitions[0].PartitionMaxBytes = 50 << 20
	greedy := make([]*rawClient, 40)
	for i := range greedy {
		greedy[i] = a.dial(t)
		if err := greedy[i].Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		greedy[i].send(req)
	}
	most := 0.0
	waitLong(t, func() string {
		most = max(most, a.metric(t, `tidemill_server_budget_used_bytes{kind="answer"}`))
		if a.metric(t, `tidemill_server_refused_total{reason="pressure"}`) == 0 {
			return "nobody was closed for what others wait for"
		}
		return ""
	})
	if most == 0 || most > answers {
		t.Errorf("at most %.0f bytes were held for those who do not read, want at most %d", most, answers)
	}
	end := endOf(c, witnessTopic, 0)
	waitLong(t, func() string {
		if endOf(c, witnessTopic, 0) < end+3 {
			return "another client is stuck"
		}
		return ""
	})
	a.checkUnharmed(t)
}

// metric reads one value that the broker tells, 0 if it does not.
func (a *attack) metric(t *testing.T, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + a.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n"+name+" ")
	if !found {
		return 0
	}
	number, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestBadInputStalledFrames: frames that claim all memory and do not come keep nobody out for long (D11).
func TestBadInputStalledFrames(t *testing.T) {
	a := besiege(t)
	for range 20 {
		c := a.dial(t).warm()
		c.sendBytes([]byte{6, 0x3f, 0, 0, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff}) // 100 MiB
	}
	for range 200 {
		c := a.dial(t)
		c.sendBytes([]byte{0, 0x0f, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff}) // 960 KiB to be produced
	}
	c := a.dial(t)
	for range 3 {
		end := endOf(c, witnessTopic, 0)
		waitLong(t, func() string {
			if endOf(c, witnessTopic, 0) == end {
				return "another client is stuck"
			}
			return ""
		})
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
