package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// samples returns a small valid frame for each API in its newest version, with one element in each array.
func samples() [][]byte {
	var out [][]byte
	for _, a := range protocol.APIs() {
		req := kmsg.RequestForKey(int16(a.Key))
		v := reflect.ValueOf(req).Elem()
		for _, path := range arraysOf(v.Type(), nil) {
			growArray(v, path, 1, func(int) string { return keptTopic })
		}
		req.SetVersion(a.Max)
		prepareSample(req)
		out = append(out, frameOf(req, 1))
	}
	return out
}

// prepareSample keeps a sample from changing or waiting for anything.
func prepareSample(req kmsg.Request) {
	switch req := req.(type) {
	case *kmsg.CreateTopicsRequest:
		req.ValidateOnly = true
	case *kmsg.CreatePartitionsRequest:
		req.ValidateOnly = true
	case *kmsg.DeleteTopicsRequest:
		req.Topics[0].Topic = kmsg.StringPtr("no such topic")
	case *kmsg.DeleteRecordsRequest:
		req.Topics[0].Topic = "no such topic"
	}
}

// resized gives a frame that was cut or changed the right size.
func resized(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// headerEnd is where a sample's body begins: size, key, version, correlation id, client id and, at most, a byte of tags.
const headerEnd = 4 + 8 + 2 + len("frame")

// TestBadInputTruncatedFrames: a request that ends too early, by its size or with its connection.
func TestBadInputTruncatedFrames(t *testing.T) {
	a := besiege(t)
	for _, frame := range samples() {
		key := protocol.Key(binary.BigEndian.Uint16(frame[4:]))
		t.Run(key.String(), func(t *testing.T) {
			for n := 12; n < len(frame); n++ {
				c := dial(t, a.kafka)
				c.sendBytes(resized(append([]byte(nil), frame[:n]...)))
				if key == protocol.KeyAPIVersions && n > headerEnd {
					if _, _, err := c.receive(); err != nil {
						continue // a body that is cut short
					}
				} else {
					c.checkClosed()
				}
				c.Conn.Close()
			}
			for n := 1; n < len(frame); n += 5 {
				c := dial(t, a.kafka)
				c.sendBytes(frame[:n])
				c.Conn.(*net.TCPConn).CloseWrite()
				c.checkClosed()
				c.Conn.Close()
			}
		})
	}
	a.checkUnharmed(t)
}

// TestBadInputOversizedFrames: sizes that no frame may have close the connection before a byte of it is taken (A1).
func TestBadInputOversizedFrames(t *testing.T) {
	a := besiege(t)
	head := func(size int32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(size)), 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff)
	}
	for _, size := range []int32{-1, -1 << 31, 0, 1, 7, 100<<20 + 1, 1<<31 - 1} {
		c := a.dial(t)
		c.sendBytes(head(size))
		c.checkClosed()
	}
	c := a.dial(t)
	c.sendBytes(head(512<<10 + 1)) // as the first request
	c.checkClosed()
	a.checkUnharmed(t)
}

// allocatedSoFar is the heap that was ever allocated.
func allocatedSoFar() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// TestBadInputRandomFrames: bytes of any kind, in place of frames, of bodies, and within samples.
func TestBadInputRandomFrames(t *testing.T) {
	a := besiege(t, "--kafka", "auto.create.topics.enable=false")
	r := rand.New(rand.NewPCG(7, 7))
	t.Run("noise", func(t *testing.T) {
		for range 200 {
			noise := make([]byte, 1+r.IntN(2000))
			for i := range noise {
				noise[i] = byte(r.Uint32())
			}
			if r.IntN(2) == 0 {
				noise = resized(append(make([]byte, 4), noise...)) // one frame
			}
			c := dial(t, a.kafka)
			c.sendBytes(noise)
			c.Conn.(*net.TCPConn).CloseWrite()
			c.drain()
		}
	})
	t.Run("bodies", func(t *testing.T) { sendRandomBodies(t, a.testBroker, 1, 600) })
	t.Run("changed samples", func(t *testing.T) {
		for _, frame := range samples() {
			key := protocol.Key(binary.BigEndian.Uint16(frame[4:]))
			if key == protocol.KeyCreateTopics || key == protocol.KeyDeleteTopics || key == protocol.KeyCreatePartitions {
				continue // what a bit makes of them may be what somebody wants
			}
			for range 20 {
				changed := append([]byte(nil), frame...)
				for range 1 + r.IntN(3) {
					changed[headerEnd+r.IntN(len(frame)-headerEnd)] = []byte{0, 1, 2, 0x7f, 0x80, 0xff}[r.IntN(6)]
				}
				c := dial(t, a.kafka)
				c.sendBytes(changed)
				c.Conn.(*net.TCPConn).CloseWrite()
				c.drain()
			}
		}
	})
	a.checkUnharmed(t)
	checkNoPanic(t, a.testBroker)
}

// drain reads what comes until the broker closes the connection, and closes it.
func (c *rawClient) drain() {
	c.t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := io.Copy(io.Discard, c.Conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the connection stays open")
	}
	c.Conn.Close()
}

// TestBadInputHostileLengths: every length and count of every request claims what is not there. What is allocated follows
// the bytes that came, not what they claim (D10).
func TestBadInputHostileLengths(t *testing.T) {
	a := besiege(t, "--kafka", "auto.create.topics.enable=false")
	claims := [][]byte{
		{0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xfe}, {0x80, 0, 0, 0}, {0x7f, 0xff}, {0xff, 0xfe},
		{0xff, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, {0x80, 0x80, 0x80, 0x80, 1},
	}
	before, sent := allocatedSoFar(), 0
	for _, frame := range samples() {
		key := protocol.Key(binary.BigEndian.Uint16(frame[4:]))
		if key == protocol.KeyCreateTopics || key == protocol.KeyDeleteTopics || key == protocol.KeyCreatePartitions {
			frame = append([]byte(nil), frame...)
		}
		t.Run(key.String(), func(t *testing.T) {
			for at := headerEnd; at < len(frame); at++ {
				for i, claim := range claims {
					if (at+i)%4 != 0 {
						continue // each place, each claim, but not all pairs
					}
					changed := append(append([]byte(nil), frame[:at]...), claim...)
					if at+len(claim) < len(frame) {
						changed = append(changed, frame[at+len(claim):]...)
					}
					c := dial(t, a.kafka)
					c.sendBytes(resized(changed))
					c.Conn.(*net.TCPConn).CloseWrite()
					c.drain()
					sent++
				}
			}
		})
	}
	// Each costs a connection, some buffers and its share of what the witness does meanwhile; one that was believed, 2 GiB.
	if n := allocatedSoFar() - before; n > 1<<30 {
		t.Errorf("%d requests of some bytes made %d MiB of garbage", sent, n>>20)
	}
	a.checkUnharmed(t)
	checkNoPanic(t, a.testBroker)
}
