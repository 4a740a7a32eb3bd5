// Package memstore keeps objects in memory, for tests.
//
// Invariants: bytes are copied in and out, so no caller can reach a stored object; each object carries the checksum it
// was stored with, and a read that finds other bytes panics, because an immutable object changed.
package memstore

import (
	"context"
	"fmt"
	"hash/crc32"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/objectstore"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type object struct {
	body     []byte
	sum      uint32
	modified time.Time
}

// A Store is an objectstore.Store in memory. The zero value is not usable; see New.
type Store struct {
	mu struct {
		sync.Mutex
		objects map[string]object
	}
}

var _ objectstore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	s := &Store{}
	s.mu.objects = make(map[string]object)
	return s
}

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w: %w", key, objectstore.ErrAmbiguous, err)
	}
	o := object{body: slices.Clone(body), sum: crc32.Checksum(body, castagnoli), modified: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.mu.objects[key]; taken {
		return fmt.Errorf("put %s: %w", key, objectstore.ErrConflict)
	}
	s.mu.objects[key] = o
	return nil
}

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	o, err := s.find(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return append(make([]byte, 0, len(o.body)), o.body...), nil
}

// ReadAt implements objectstore.Store.
func (s *Store) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	o, err := s.find(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if off < 0 || off > int64(len(o.body)) || int64(len(p)) > int64(len(o.body))-off {
		return fmt.Errorf("read %s: %d bytes at %d of %d: %w", key, len(p), off, len(o.body), objectstore.ErrRange)
	}
	copy(p, o.body[off:])
	return nil
}

// List implements objectstore.Store. It yields what was stored when iteration began.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		for _, info := range s.snapshot(prefix, after) {
			if err := ctx.Err(); err != nil {
				yield(objectstore.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(objectstore.Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %d objects: %w", len(keys), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(s.mu.objects, key)
	}
	return nil
}

func (s *Store) find(ctx context.Context, key string) (object, error) {
	if err := ctx.Err(); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	o, ok := s.mu.objects[key]
	s.mu.Unlock()
	if !ok {
		return object{}, objectstore.ErrNotFound
	}
	if crc32.Checksum(o.body, castagnoli) != o.sum {
		panic("memstore: immutable object " + key + " changed after it was stored")
	}
	return o, nil
}

func (s *Store) snapshot(prefix, after string) []objectstore.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var infos []objectstore.Info
	for key, o := range s.mu.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			infos = append(infos, objectstore.Info{Key: key, Size: int64(len(o.body)), Modified: o.modified})
		}
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Key < infos[j].Key })
	return infos
}
