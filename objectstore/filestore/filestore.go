// Package filestore keeps objects as files below one local folder, shared by any number of processes of one machine.
//
// An object is written to a temporary file, synced, and linked under its final name, which fails if that exists; then
// the folder is synced:
//
//	<root>/wal/3f/0/00000000000000000007.obj    object "wal/3f/0/00000000000000000007"
//	<root>/.tmp/<process>/<n>                   bodies on their way; <process> is locked while its process lives
//
// Invariants: a final name never shows a part of a body, also after a crash; a conflict is answered only for a name
// that is durable; after a failed sync nothing is written any more, because what the disk holds is unknown until the
// process starts anew; no key reaches outside root.
package filestore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tidemill/tidemill/objectstore"
)

// A Store is an objectstore.Store in a folder. It is safe for concurrent use.
type Store struct {
	root    string
	scratch *scratch
	names   atomic.Uint64         // of temporary files
	broken  atomic.Pointer[error] // the first failed sync
	sync    func(*os.File) error  // (*os.File).Sync but for tests

	// mu guards folders: those known to exist durably. Only an optimisation; forgotten when full.
	mu      sync.Mutex
	folders map[string]struct{}
}

var (
	_ objectstore.BodyStore   = (*Store)(nil)
	_ objectstore.SummedStore = (*Store)(nil)
)

// foldersMax bounds the memory of known folders, at about 100 bytes each.
const foldersMax = 8192

// Open opens the folder root, creating it and its parents if absent, and removes what crashed processes left in it.
// ErrDenied or ErrNoBucket, with the reason, when it cannot be written.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", root, err)
	}
	s := &Store{root: root, sync: (*os.File).Sync, folders: make(map[string]struct{})}
	if err := s.makeRoot(); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", root, classify(err))
	}
	if s.scratch, err = openScratch(filepath.Join(root, scratchName)); err != nil {
		return nil, fmt.Errorf("open folder %s for writing: %w", root, classify(err))
	}
	return s, nil
}

// Close removes the temporary folder. The store must not be used after it. Calling it again does nothing.
func (s *Store) Close() error { return s.scratch.close() }

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	return s.PutBody(ctx, key, objectstore.Body{Pieces: [][]byte{body}})
}

// PutBody implements objectstore.BodyStore. The checksum is of no use here: nothing lies between.
func (s *Store) PutBody(ctx context.Context, key string, body objectstore.Body) error {
	name, err := s.file(key)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, err)
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if err := s.create(name, body.Pieces); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func (s *Store) create(name string, body [][]byte) error {
	folder := filepath.Dir(name)
	if err := s.ensureFolder(folder); err != nil {
		return err
	}
	if _, err := os.Lstat(name); err == nil { // spares the loser of a long gone race from writing its body
		return s.conflict(folder)
	}
	temp := filepath.Join(s.scratch.folder, strconv.FormatUint(s.names.Add(1), 10))
	defer func() { _ = os.Remove(temp) }() // what remains is removed when the folder is next opened
	if err := s.write(temp, body); err != nil {
		return err
	}
	switch err := os.Link(temp, name); {
	case errors.Is(err, fs.ErrExist):
		return s.conflict(folder)
	case errors.Is(err, fs.ErrNotExist):
		s.forget(folder)
		return fmt.Errorf("%w: %w", objectstore.ErrAmbiguous, err)
	case err != nil:
		return classify(err)
	}
	return s.syncFolder(folder)
}

// conflict answers that a name is taken once the name is durable: its creator may have died before it synced, and
// nobody may act on an object that a power failure could take back.
func (s *Store) conflict(folder string) error {
	if err := s.syncFolder(folder); err != nil {
		return err
	}
	return objectstore.ErrConflict
}

func (s *Store) write(temp string, body [][]byte) error {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return classify(err)
	}
	for _, piece := range body {
		if _, err := f.Write(piece); err != nil {
			_ = f.Close() // the file is given up
			return classify(err)
		}
	}
	if err := s.sync(f); err != nil {
		_ = f.Close() // the file is given up
		return s.fail(err)
	}
	if err := f.Close(); err != nil {
		return s.fail(err)
	}
	return nil
}

// fail notes a failed sync. The kernel drops the dirty pages after reporting it once, so a later sync of the same file
// would succeed and mean nothing.
func (s *Store) fail(err error) error {
	s.broken.CompareAndSwap(nil, &err)
	return fmt.Errorf("%w: %w", objectstore.ErrAmbiguous, err)
}

// check refuses writes after a failed sync.
func (s *Store) check() error {
	if err := s.broken.Load(); err != nil {
		return fmt.Errorf("%w: the disk failed earlier (%w); check it, then start the process again", objectstore.ErrNoBucket, *err)
	}
	return nil
}

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer f.Close()
	body := make([]byte, size)
	if _, err := io.ReadFull(f, body); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return body, nil
}

// ReadAt implements objectstore.Store.
func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	return s.read(ctx, key, p, off, func(f *os.File) error {
		_, err := f.ReadAt(p, off)
		return err
	})
}

// Near implements objectstore.NearStore.
func (s *Store) Near() bool { return true }

// summedAt is how much is read and summed at a time: half of what a core caches for itself.
const summedAt = 128 << 10

// ReadSummed implements objectstore.SummedStore.
func (s *Store) ReadSummed(ctx context.Context, key string, p []byte, off int64) (sum uint32, err error) {
	err = s.read(ctx, key, p, off, func(f *os.File) error {
		for at := 0; at < len(p); at += summedAt {
			piece := p[at:min(at+summedAt, len(p))]
			if _, err := f.ReadAt(piece, off+int64(at)); err != nil {
				return err
			}
			sum = crc32.Update(sum, castagnoli, piece)
		}
		return nil
	})
	return sum, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// read calls fill if the object has the bytes that are asked for, and there are any.
func (s *Store) read(ctx context.Context, key string, p []byte, off int64, fill func(*os.File) error) error {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	defer f.Close()
	if off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("read %s: %d bytes at %d of %d: %w", key, len(p), off, size, objectstore.ErrRange)
	}
	if len(p) == 0 {
		return nil
	}
	if err := fill(f); err != nil {
		return fmt.Errorf("read %s: %d bytes at %d: %w", key, len(p), off, err)
	}
	return nil
}

// open returns the object's file and size.
func (s *Store) open(ctx context.Context, key string) (*os.File, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	name, err := s.file(key)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, classifyRead(err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // only read from
		return nil, 0, classifyRead(err)
	}
	return f, info.Size(), nil
}

// Delete implements objectstore.Store. A deletion is not synced: after a crash an object may be back.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		name, err := s.file(key)
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		if err := os.Remove(name); err != nil && !absent(err) {
			return fmt.Errorf("delete %s: %w", key, classify(err))
		}
	}
	return ctx.Err()
}

// absent reports that a path names no file; ENOTDIR means that a part of it is one.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// classify gives a failed write step the outcome it means. Nothing was linked yet, so only unknown errors are unknown.
func classify(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", objectstore.ErrDenied, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), absent(err):
		return fmt.Errorf("%w: %w", objectstore.ErrNoBucket, err)
	default:
		return fmt.Errorf("%w: %w", objectstore.ErrAmbiguous, err)
	}
}

func classifyRead(err error) error {
	switch {
	case absent(err):
		return objectstore.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", objectstore.ErrDenied, err)
	default:
		return err
	}
}
