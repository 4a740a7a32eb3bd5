package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/tidemill/tidemill/objectstore"
)

// env is one case's store and its corner of the key space.
type env struct {
	*testing.T
	store  objectstore.Store
	prefix string
}

func freshPrefix() string { return "storetest/" + rand.Text() + "/" }

func (e *env) key(name string) string { return e.prefix + name }

func (e *env) ctx() context.Context { return e.Context() }

func (e *env) put(name, body string) {
	e.Helper()
	if err := e.store.Put(e.ctx(), e.key(name), []byte(body)); err != nil {
		e.Fatalf("put %q: %v", name, err)
	}
}

func (e *env) wantBody(name string, want []byte) {
	e.Helper()
	got, err := e.store.Get(e.ctx(), e.key(name))
	if err != nil {
		e.Fatalf("get %q: %v", name, err)
	}
	if !bytes.Equal(got, want) {
		e.Fatalf("get %q: got %d bytes %.40q, want %d bytes %.40q", name, len(got), got, len(want), want)
	}
}

func (e *env) wantErr(what string, err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

// list returns the names under e's prefix + prefix, after e's prefix + after unless that is empty.
func (e *env) list(prefix, after string) []string {
	e.Helper()
	if after != "" {
		after = e.key(after)
	}
	names := []string{}
	for info, err := range e.store.List(e.ctx(), e.key(prefix), after) {
		if err != nil {
			e.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		if info.Modified.IsZero() {
			e.Errorf("list: %s has no time of modification", info.Key)
		}
		names = append(names, info.Key[len(e.prefix):])
	}
	return names
}
