package broker

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/server"
)

// handlers holds the answer to each API key, registered beside its code.
var handlers = map[int16]func(*Broker, *call, kmsg.Request){}

// handle registers the handler of one key. It is called from init functions only.
func handle[R kmsg.Request](key protocol.Key, h func(*Broker, *call, R)) {
	if _, taken := handlers[int16(key)]; taken {
		panic(fmt.Sprintf("two handlers for %s", key))
	}
	handlers[int16(key)] = func(b *Broker, c *call, req kmsg.Request) { h(b, c, req.(R)) }
}

// Handle answers one request. The server calls it from the connection's reader, in order.
func (b *Broker) Handle(ctx context.Context, conn *server.Conn, r *server.Request, done func(server.Response)) {
	c := &call{ctx: ctx, conn: conn, request: r, header: r.Header, done: done}
	key, version := r.Header.Key, r.Header.Version
	if key == int16(protocol.KeyAPIVersions) && !protocol.Supported(key, version) {
		b.unsupportedAPIVersions(c)
		return
	}
	if !protocol.Supported(key, version) {
		b.log.Info("closing connection: request is not served",
			slog.String("client", conn.RemoteAddr().String()), slog.Int("key", int(key)), slog.Int("version", int(version)))
		c.hangUp() // A3
		return
	}
	size, err := protocol.Measure(key, version, r.Body)
	if err == nil && size > decodedFree && !c.admitDecoded(b.decoded, int64(size)) {
		return
	}
	var req kmsg.Request
	if err == nil {
		req, err = protocol.DecodeMeasured(key, version, r.Body)
	}
	if err != nil {
		b.log.Info("closing connection: request does not decode",
			slog.String("client", conn.RemoteAddr().String()), slog.Any("error", err))
		c.hangUp() // A7
		return
	}
	if c.decoded == nil {
		handlers[key](b, c, req)
		return
	}
	c.handleCounted(func() { handlers[key](b, c, req) })
}
