package objectstore_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
)

// faulty replaces parts of a store that keeps the contract.
type faulty struct {
	objectstore.Store
	put func(ctx context.Context, key string, body []byte) error
	get func(ctx context.Context, key string) ([]byte, error)
}

func (f faulty) Put(ctx context.Context, key string, body []byte) error {
	if f.put == nil {
		return f.Store.Put(ctx, key, body)
	}
	return f.put(ctx, key, body)
}

func (f faulty) Get(ctx context.Context, key string) ([]byte, error) {
	if f.get == nil {
		return f.Store.Get(ctx, key)
	}
	return f.get(ctx, key)
}

// checkThenWrite is how stores without a lock do it: between look and write others look too.
func checkThenWrite(s objectstore.Store) objectstore.Store {
	return faulty{Store: s, put: func(ctx context.Context, key string, body []byte) error {
		if _, err := s.Get(ctx, key); err == nil {
			return objectstore.ErrConflict
		}
		for range 100 {
			runtime.Gosched()
		}
		return errors.Join(s.Delete(ctx, key), s.Put(ctx, key, body))
	}}
}

// overwrites ignores the condition.
func overwrites(s objectstore.Store) objectstore.Store {
	var mu sync.Mutex
	return faulty{Store: s, put: func(ctx context.Context, key string, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(s.Delete(ctx, key), s.Put(ctx, key, body))
	}}
}

// lastWins answers like an atomic store and keeps the last body.
func lastWins(s objectstore.Store) objectstore.Store {
	var mu sync.Mutex
	return faulty{Store: s, put: func(ctx context.Context, key string, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		err := s.Put(ctx, key, body)
		if errors.Is(err, objectstore.ErrConflict) {
			return errors.Join(err, s.Delete(ctx, key), s.Put(ctx, key, body))
		}
		return err
	}}
}

// cachesAbsence remembers that an object was not there.
func cachesAbsence(s objectstore.Store) objectstore.Store {
	var absent sync.Map
	return faulty{Store: s, get: func(ctx context.Context, key string) ([]byte, error) {
		if _, known := absent.Load(key); known {
			return nil, objectstore.ErrNotFound
		}
		body, err := s.Get(ctx, key)
		if errors.Is(err, objectstore.ErrNotFound) {
			absent.Store(key, true)
		}
		return body, err
	}}
}

// cachesBodies goes on showing an object after its deletion.
func cachesBodies(s objectstore.Store) objectstore.Store {
	var bodies sync.Map
	return faulty{Store: s, get: func(ctx context.Context, key string) ([]byte, error) {
		if body, known := bodies.Load(key); known {
			return body.([]byte), nil
		}
		body, err := s.Get(ctx, key)
		if err == nil {
			bodies.Store(key, body)
		}
		return body, err
	}}
}

func TestProbeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(objectstore.Store) objectstore.Store
		saw   string
	}{
		{"check then write", checkThenWrite, "were told they won"},
		{"overwrite", overwrites, "16 of 16 concurrent creators"},
		{"last writer wins", lastWins, "told it lost"},
		{"negative cache", cachesAbsence, "not found after its create was acknowledged"},
		{"cache of deleted objects", cachesBodies, "is found although it does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := objectstore.Probe(t.Context(), c.spoil(memstore.New()))
			if !errors.Is(err, objectstore.ErrNotAtomic) || !strings.Contains(err.Error(), c.saw) {
				t.Errorf("got error %v, want %v with %q", err, objectstore.ErrNotAtomic, c.saw)
			}
		})
	}
}

func TestProbeAccepts(t *testing.T) {
	for _, c := range []struct {
		name string
		rule faultstore.Rule
	}{
		{"healthy", faultstore.Rule{Op: faultstore.Any, Fault: faultstore.Slow}},
		{"lost requests", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost, Chance: 0.3}},
		{"lost replies", faultstore.Rule{Op: faultstore.Put, Fault: faultstore.LostReply, Chance: 0.3}},
		{"failing cleanup", faultstore.Rule{Op: faultstore.Delete, Fault: faultstore.Lost, Skip: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := memstore.New()
				if err := objectstore.Probe(t.Context(), faultstore.New(m, 7, c.rule)); err != nil {
					t.Errorf("probe: %v", err)
				}
				for info, err := range m.List(t.Context(), "", "") {
					if c.rule.Op != faultstore.Delete {
						t.Errorf("probe left %s, error %v", info.Key, err)
					}
				}
			})
		})
	}
}

func TestProbeCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fault := range []error{objectstore.ErrDenied, objectstore.ErrNoBucket, objectstore.ErrAmbiguous} {
			s := faultstore.New(memstore.New(), 1, faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Lost, Err: fault})
			err := objectstore.Probe(t.Context(), s)
			if !errors.Is(err, fault) || errors.Is(err, objectstore.ErrNotAtomic) {
				t.Errorf("got error %v, want %v alone", err, fault)
			}
		}
	})
}
