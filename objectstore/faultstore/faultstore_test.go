package faultstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/faultstore"
	"github.com/tidemill/tidemill/objectstore/memstore"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func TestContractWithoutFaults(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return faultstore.New(memstore.New(), 1) })
}

func TestPutFaults(t *testing.T) {
	denied := faultstore.Rule{Fault: faultstore.Lost, Err: objectstore.ErrDenied}
	for _, c := range []struct {
		name  string
		rule  faultstore.Rule
		want  error
		holds string // what the store below holds after the put; "" for nothing
		later string // and after Release
	}{
		{"slow", faultstore.Rule{Fault: faultstore.Slow}, nil, "body", "body"},
		{"lost", faultstore.Rule{Fault: faultstore.Lost}, objectstore.ErrAmbiguous, "", ""},
		{"denied", denied, objectstore.ErrDenied, "", ""},
		{"lost reply", faultstore.Rule{Fault: faultstore.LostReply}, objectstore.ErrAmbiguous, "body", "body"},
		{"late", faultstore.Rule{Fault: faultstore.Late}, objectstore.ErrAmbiguous, "", "body"},
		{"twice", faultstore.Rule{Fault: faultstore.Twice}, objectstore.ErrConflict, "body", "body"},
		{"conflict", faultstore.Rule{Fault: faultstore.Conflict}, objectstore.ErrConflict, "", ""},
		{"taken", faultstore.Rule{Fault: faultstore.Taken, Body: []byte("other")}, objectstore.ErrConflict, "other", "other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := memstore.New()
			s := faultstore.New(below, 1, c.rule)
			body := []byte("body")
			if err := s.Put(t.Context(), "key", body); !errors.Is(err, c.want) {
				t.Errorf("put: got error %v, want %v", err, c.want)
			}
			clear(body) // a late put must have its own copy
			wantHeld(t, below, c.holds)
			s.Release()
			wantHeld(t, below, c.later)
			if s.Faulted() != 1 {
				t.Errorf("counted %d faults, want 1", s.Faulted())
			}
		})
	}
}

func wantHeld(t *testing.T, below objectstore.Store, want string) {
	t.Helper()
	got, err := below.Get(t.Context(), "key")
	if absent := errors.Is(err, objectstore.ErrNotFound); string(got) != want || absent != (want == "") {
		t.Errorf("the store holds %q, error %v; want %q", got, err, want)
	}
}

func TestReadFaults(t *testing.T) {
	body := bytes.Repeat([]byte{0xa5}, 64)
	below := memstore.New()
	if err := below.Put(t.Context(), "key", body); err != nil {
		t.Fatalf("put: %v", err)
	}
	read := func(f faultstore.Fault) (got, p []byte, getErr, readErr error) {
		s := faultstore.New(below, 3, faultstore.Rule{Fault: f})
		p = make([]byte, len(body))
		got, getErr = s.Get(t.Context(), "key")
		return got, p, getErr, s.ReadAt(t.Context(), "key", p, 0)
	}
	if _, _, err1, err2 := read(faultstore.Lost); err1 == nil || err2 == nil || errors.Is(err1, objectstore.ErrNotFound) {
		t.Errorf("lost: got errors %v, %v; want some that say nothing of the object", err1, err2)
	}
	if got, _, err1, err2 := read(faultstore.Truncate); err1 != nil || len(got) >= len(body) || err2 == nil {
		t.Errorf("truncate: get %d bytes, errors %v, %v; want fewer than %d, and only read to fail", len(got), err1, err2, len(body))
	}
	if got, p, err1, err2 := read(faultstore.Flip); err1 != nil || err2 != nil || difference(got, body) != 1 || difference(p, body) != 1 {
		t.Errorf("flip: got %d and %d other bits, errors %v, %v; want 1 and 1", difference(got, body), difference(p, body), err1, err2)
	}
	if got, err := below.Get(t.Context(), "key"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the stored object changed: error %v", err)
	}
}

func difference(a, b []byte) (n int) {
	for i := range a {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n
}

func TestListAndDeleteFaults(t *testing.T) {
	below := memstore.New()
	s := faultstore.New(below, 1)
	exists := func() bool {
		_, err := below.Get(t.Context(), "key")
		return err == nil
	}
	if err := s.Put(t.Context(), "key", nil); err != nil {
		t.Fatalf("put: %v", err)
	}
	s.SetRules(faultstore.Rule{Fault: faultstore.Lost})
	for _, err := range s.List(t.Context(), "", "") {
		if err == nil {
			t.Error("list: got no error")
		}
	}
	if err := s.Delete(t.Context(), "key"); err == nil || !exists() {
		t.Errorf("delete, not applied: error %v, exists %v", err, exists())
	}
	s.SetRules(faultstore.Rule{Fault: faultstore.LostReply})
	if err := s.Delete(t.Context(), "key"); err == nil || exists() {
		t.Errorf("delete, applied: error %v, exists %v", err, exists())
	}
	s.SetRules()
	if err := s.Delete(t.Context(), "key"); err != nil {
		t.Errorf("delete of a healed store: %v", err)
	}
}

func TestConditions(t *testing.T) {
	s := faultstore.New(memstore.New(), 1, faultstore.Rule{
		Op: faultstore.Put, Match: func(key string) bool { return strings.HasPrefix(key, "wal/") },
		Fault: faultstore.Lost, Skip: 1, Limit: 2,
	})
	var failed []string
	for _, key := range []string{"other", "wal/0", "wal/1", "other/1", "wal/2", "wal/3"} {
		if s.Put(t.Context(), key, nil) != nil {
			failed = append(failed, key)
		}
	}
	if diff := cmp.Diff([]string{"wal/1", "wal/2"}, failed); diff != "" {
		t.Errorf("failed puts (-want +got):\n%s", diff)
	}
}

func TestLateAfterDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := memstore.New()
		s := faultstore.New(below, 1, faultstore.Rule{Op: faultstore.Put, Fault: faultstore.Late, Delay: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.Put(ctx, "key", []byte("body")); !errors.Is(err, objectstore.ErrAmbiguous) {
			t.Errorf("put: got error %v, want %v", err, objectstore.ErrAmbiguous)
		}
		cancel()
		<-time.After(59 * time.Second)
		wantHeld(t, below, "")
		s.Wait()
		wantHeld(t, below, "body")
	})
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultstore.New(memstore.New(), 1, faultstore.Rule{Latency: time.Second, Jitter: time.Second})
		started := time.Now()
		if err := s.Put(t.Context(), "key", nil); err != nil {
			t.Errorf("put: %v", err)
		}
		if took := time.Since(started); took < time.Second || took >= 2*time.Second {
			t.Errorf("put took %v, want 1 to 2 s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.Get(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: got error %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// The faults of a seed must not depend on the order in which requests arrive.
func TestFaultsAreASeeds(t *testing.T) {
	draw := func(seed uint64, order []int) []int {
		s := faultstore.New(memstore.New(), seed, faultstore.Rule{Fault: faultstore.Lost, Chance: 0.25})
		failed := []int{}
		for _, i := range order {
			if s.Put(t.Context(), fmt.Sprint("key-", i), nil) != nil {
				failed = append(failed, i)
			}
		}
		slices.Sort(failed)
		return failed
	}
	forth := make([]int, 400)
	for i := range forth {
		forth[i] = i
	}
	back := slices.Clone(forth)
	slices.Reverse(back)
	first := draw(1, forth)
	if diff := cmp.Diff(first, draw(1, back)); diff != "" {
		t.Errorf("one seed, two orders (-forth +back):\n%s", diff)
	}
	if cmp.Equal(first, draw(2, forth)) {
		t.Error("two seeds drew the same faults")
	}
	if len(first) < 60 || len(first) > 140 {
		t.Errorf("a chance of 1/4 failed %d of 400", len(first))
	}
}
