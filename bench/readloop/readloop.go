// Package readloop is the yardstick of reading old data: it reads a folder's files, sums them and sends them on, and does nothing else.
package readloop

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/tidemill/tidemill/bench/observe"
)

// piece is what is read and sent at once, out of memory that stays in a core's cache: a broker, which has to keep what it sends until it
// is sent, cannot do with less. step is what is summed while it is still in the nearest cache.
const (
	piece = 1 << 20
	step  = 128 << 10
)

// Result is what a run did and used.
type Result struct {
	Bytes      int64
	CPUSeconds float64
	// Sum is the CRC-32C of all bytes, in the order of the files' names.
	Sum uint32
}

// Run sends all files under dir of 1 MiB and more to whoever listens at addr.
func Run(ctx context.Context, dir, addr string) (r Result, err error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, nc.Close()) }()
	before, err := observe.Process(os.Getpid())
	if err != nil {
		return r, err
	}
	buf, table := make([]byte, piece), crc32.MakeTable(crc32.Castagnoli)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() < piece {
			return err
		}
		return r.send(ctx, nc, path, buf, table)
	})
	if err != nil {
		return r, err
	}
	after, err := observe.Process(os.Getpid())
	r.CPUSeconds = (after.CPU() - before.CPU()).Seconds()
	return r, err
}

func (r *Result) send(ctx context.Context, w io.Writer, path string, buf []byte, table *crc32.Table) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for pos := int64(0); ctx.Err() == nil; {
		n := 0
		for n < len(buf) && err == nil {
			var m int
			m, err = f.ReadAt(buf[n:min(n+step, len(buf))], pos)
			r.Sum = crc32.Update(r.Sum, table, buf[n:n+m])
			n, pos = n+m, pos+int64(m)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		r.Bytes += int64(n)
		if err != nil {
			return nil
		}
	}
	return ctx.Err()
}
