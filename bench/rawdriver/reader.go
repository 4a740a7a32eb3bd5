package rawdriver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// A Reader asks a broker that may not be up yet for single batches, until it answers.
type Reader struct {
	Addr, Topic string

	nc net.Conn
}

// Close ends the connection, if there is one.
func (r *Reader) Close() {
	if r.nc != nil {
		r.nc.Close()
		r.nc = nil
	}
}

// Await returns when the broker has answered a fetch at offset, which a batch must begin with, with that batch.
func (r *Reader) Await(ctx context.Context, partition int32, offset int64) error {
	for {
		err := r.once(ctx, partition, offset)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("partition %d at offset %d: %w: %w", partition, offset, ctx.Err(), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (r *Reader) once(ctx context.Context, partition int32, offset int64) (err error) {
	if r.nc == nil {
		if r.nc, err = dial(ctx, r.Addr); err != nil {
			return err
		}
	}
	c := newConsumer(Fetch{Topic: r.Topic, MaxBytes: 64 << 10}, partition, r.nc)
	c.next = offset
	if _, err = r.nc.Write(c.ask(1, offset)); err == nil {
		var body []byte
		if body, _, err = readFrame(bufio.NewReader(r.nc), nil, 1); err == nil {
			err = c.check(body)
		}
	}
	switch {
	case err != nil: // also an error code: the answer of a broker that has just started; another connection does not harm
		r.Close()
	case c.next == offset:
		err = errors.New("no batch")
	}
	return err
}
