package objectstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNotAtomic means that the store let two writers create one object, or shows an older state than it
// acknowledged. No acknowledged record would be safe on it: refuse to start.
var ErrNotAtomic = errors.New("objectstore: create-if-absent is not atomic")

// The probe's size: stores that check first and write after let two or more of 16
// barrier-released creators win within a few keys, while 8 x 16 small requests end within a second on a near store.
const (
	probeKeys     = 8
	probeCreators = 16
	probeAttempts = 20 // of one creator against answers that decide nothing, 2 s in all
	probePause    = 10 * time.Millisecond
	probeCleanup  = 5 * time.Second

	probeReappears = 3
)

// Probe creates, reads and deletes a few small objects under "probe/" and returns ErrNotAtomic, with what it saw, when
// s does not keep the promises of Store. Any other error means that it could not find out.
func Probe(ctx context.Context, s Store) error {
	p := probe{store: s, prefix: "probe/" + rand.Text() + "/"}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanup)
		defer cancel()
		// The objects are garbage whatever happened; a failing cleanup is no reason to refuse a good store.
		_ = s.Delete(ctx, p.keys...)
	}()
	for i := range probeKeys {
		if err := p.contend(ctx, p.key(fmt.Sprintf("contended-%d", i))); err != nil {
			return fmt.Errorf("probe object store: %w", err)
		}
	}
	// A request that was sent twice, because the first was slow, may land after the deletion that follows: so a store that forgets
	// absences has to fail on every key.
	var err error
	for i := range probeReappears {
		if err = p.reappear(ctx, p.key(fmt.Sprintf("negative-%d", i))); !errors.Is(err, ErrNotAtomic) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("probe object store: %w", err)
	}
	return nil
}

type probe struct {
	store  Store
	prefix string
	keys   []string
}

func (p *probe) key(name string) string {
	p.keys = append(p.keys, p.prefix+name)
	return p.prefix + name
}

// contend lets many creators loose on one key: one must win, its bytes must stay.
func (p *probe) contend(ctx context.Context, key string) error {
	var (
		barrier = make(chan struct{})
		results [probeCreators]error
		group   sync.WaitGroup
	)
	for i := range probeCreators {
		group.Go(func() {
			<-barrier
			results[i] = p.create(ctx, key, creatorBody(key, i))
		})
	}
	close(barrier)
	group.Wait()

	winners, unsure := []int(nil), []int(nil)
	for i, err := range results {
		switch {
		case err == nil:
			winners = append(winners, i)
		case errors.Is(err, errUnsureConflict):
			unsure = append(unsure, i)
		case !errors.Is(err, ErrConflict):
			return err
		}
	}
	if len(winners) > 1 || len(winners) == 0 && len(unsure) == 0 {
		return fmt.Errorf("%w: %d of %d concurrent creators of %s were told they won", ErrNotAtomic, len(winners), probeCreators, key)
	}
	return p.settled(ctx, key, winners, unsure)
}

// settled checks that key holds the winner's bytes and refuses one more creator.
func (p *probe) settled(ctx context.Context, key string, winners, unsure []int) error {
	body, err := p.store.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %s was created but is not found", ErrNotAtomic, key)
	}
	if err != nil {
		return err
	}
	if len(winners) == 0 {
		winners = unsure
	}
	known := false
	for _, i := range winners {
		known = known || bytes.Equal(body, creatorBody(key, i))
	}
	if !known {
		return fmt.Errorf("%w: %s holds the bytes of a creator that was told it lost", ErrNotAtomic, key)
	}
	switch err := p.create(ctx, key, []byte("too late")); {
	case err == nil:
		return fmt.Errorf("%w: %s was created again although it existed", ErrNotAtomic, key)
	case !errors.Is(err, ErrConflict):
		return err
	}
	return nil
}

// reappear checks that neither an absence nor a deletion is remembered after a create.
func (p *probe) reappear(ctx context.Context, key string) error {
	for _, body := range []string{"first life", "second life"} {
		if _, err := p.store.Get(ctx, key); err == nil {
			return fmt.Errorf("%w: %s is found although it does not exist", ErrNotAtomic, key)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := p.create(ctx, key, []byte(body)); errors.Is(err, ErrConflict) && !errors.Is(err, errUnsureConflict) {
			return fmt.Errorf("%w: creating the absent %s was refused as a conflict", ErrNotAtomic, key)
		} else if err != nil && !errors.Is(err, errUnsureConflict) {
			return err
		}
		got, err := p.store.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %s is not found after its create was acknowledged", ErrNotAtomic, key)
		}
		if err != nil {
			return err
		}
		if string(got) != body {
			return fmt.Errorf("%w: %s reads %q after %q was stored", ErrNotAtomic, key, got, body)
		}
		if err := p.store.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// errUnsureConflict: a conflict after an attempt of the same creator that may have landed.
var errUnsureConflict = errors.New("conflict, perhaps with the own earlier attempt")

// create repeats one creator's Put until it decides. An ambiguous attempt may be the one that wins.
func (p *probe) create(ctx context.Context, key string, body []byte) error {
	unsure := false
	for attempt := 0; ; attempt++ {
		err := p.store.Put(ctx, key, body)
		switch {
		case errors.Is(err, ErrConflict) && unsure:
			return fmt.Errorf("%w: %w", errUnsureConflict, err)
		case !errors.Is(err, ErrAmbiguous) || ctx.Err() != nil || attempt == probeAttempts:
			return err
		}
		unsure = true
		select {
		case <-time.After(time.Duration(attempt) * probePause):
		case <-ctx.Done():
		}
	}
}

func creatorBody(key string, creator int) []byte {
	return fmt.Appendf(nil, "%s by creator %d", key, creator)
}
