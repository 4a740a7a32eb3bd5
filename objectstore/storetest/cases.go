package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/objectstore"
)

var cases = []struct {
	name string
	test func(*env)
}{
	{"put then get", testPutGet},
	{"conflict keeps the first bytes", testConflict},
	{"one of 32 concurrent creators wins", testCreators},
	{"body may be reused after put", testReuse},
	{"results belong to the caller", testResultOwned},
	{"empty body", testEmpty},
	{"body in pieces", testPieces},
	{"8 MiB body", testLarge},
	{"absent object", testAbsent},
	{"read at is exact", testReadAt},
	{"list order, prefix and after", testList},
	{"list many and stop early", testListMany},
	{"delete is idempotent", testDelete},
	{"odd keys", testOddKeys},
	{"ended context", testEnded},
	{"concurrent use", testConcurrent},
}

func testPutGet(e *env) {
	e.put("a", "first")
	e.put("b", "second")
	e.wantBody("a", []byte("first"))
	e.wantBody("b", []byte("second"))
}

func testConflict(e *env) {
	e.put("a", "first")
	for _, body := range []string{"other", "first", ""} {
		e.wantErr("put again", e.store.Put(e.ctx(), e.key("a"), []byte(body)), objectstore.ErrConflict)
	}
	e.wantBody("a", []byte("first"))
}

// create puts until the outcome is known: stores may answer that a race decided nothing.
func create(ctx context.Context, s objectstore.Store, key string, body []byte) error {
	for {
		err := s.Put(ctx, key, body)
		if !errors.Is(err, objectstore.ErrAmbiguous) || ctx.Err() != nil {
			return err
		}
	}
}

func testCreators(e *env) {
	const creators = 32
	for round := range 4 {
		name := fmt.Sprint("contended-", round)
		body := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "creator %2d ", i), 100) }
		var (
			start   = make(chan struct{})
			results [creators]error
			group   sync.WaitGroup
		)
		for i := range creators {
			group.Go(func() {
				<-start
				results[i] = create(e.ctx(), e.store, e.key(name), body(i))
			})
		}
		close(start)
		group.Wait()
		winner := -1
		for i, err := range results {
			switch {
			case err == nil && winner >= 0:
				e.Fatalf("creators %d and %d both won %s", winner, i, name)
			case err == nil:
				winner = i
			case !errors.Is(err, objectstore.ErrConflict):
				e.Fatalf("creator %d: got error %v, want %v", i, err, objectstore.ErrConflict)
			}
		}
		if winner < 0 {
			e.Fatalf("no creator won %s", name)
		}
		e.wantBody(name, body(winner))
	}
}

func testReuse(e *env) {
	body := []byte(strings.Repeat("keep me ", 1024))
	want := slices.Clone(body)
	for i := range 8 {
		name := fmt.Sprint("reuse-", i)
		copy(body, want)
		if err := e.store.Put(e.ctx(), e.key(name), body); err != nil {
			e.Fatalf("put: %v", err)
		}
		clear(body)
		e.wantBody(name, want)
	}
}

func testPieces(e *env) {
	sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	many := make([][]byte, 1500) // more than one writev takes
	for i := range many {
		many[i] = bytes.Repeat([]byte{byte(i)}, i%700+1)
	}
	for name, pieces := range map[string][][]byte{"one": {[]byte("whole")}, "many": many, "large": {make([]byte, 3<<20), []byte("end")}, "none": nil} {
		whole := bytes.Join(pieces, nil)
		again := slices.Clone(pieces)
		body := objectstore.Body{Pieces: again, Size: int64(len(whole)), CRC32C: sum(whole)}
		if err := objectstore.PutBody(e.ctx(), e.store, e.key(name), body); err != nil {
			e.Fatalf("put %s: %v", name, err)
		}
		e.wantErr("put again", objectstore.PutBody(e.ctx(), e.store, e.key(name), body), objectstore.ErrConflict)
		for i, p := range pieces { // pieces belong to the caller again
			if len(p) > 0 && &p[0] != &again[i][0] {
				e.Fatalf("put %s changed the slice of pieces", name)
			}
			clear(p)
		}
		e.wantBody(name, whole)
	}
}

func testResultOwned(e *env) {
	e.put("a", "immutable")
	got, err := e.store.Get(e.ctx(), e.key("a"))
	if err != nil {
		e.Fatalf("get: %v", err)
	}
	clear(got)
	e.wantBody("a", []byte("immutable"))
}

func testEmpty(e *env) {
	if err := e.store.Put(e.ctx(), e.key("nil"), nil); err != nil {
		e.Fatalf("put nil: %v", err)
	}
	e.put("empty", "")
	e.wantBody("nil", []byte{})
	e.wantBody("empty", []byte{})
	e.wantErr("put again", e.store.Put(e.ctx(), e.key("empty"), []byte("x")), objectstore.ErrConflict)
	if err := e.store.ReadAt(e.ctx(), e.key("empty"), nil, 0); err != nil {
		e.Fatalf("read nothing of an empty object: %v", err)
	}
	e.wantErr("read of an empty object", e.store.ReadAt(e.ctx(), e.key("empty"), make([]byte, 1), 0), objectstore.ErrRange)
}

func testLarge(e *env) {
	body := make([]byte, 8<<20)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	if err := e.store.Put(e.ctx(), e.key("large"), body); err != nil {
		e.Fatalf("put: %v", err)
	}
	e.wantBody("large", body)
	p := make([]byte, 1<<20)
	e.wantSummed("large", body[5<<20+1:7<<20+5], 5<<20+1, nil)
	if err := e.store.ReadAt(e.ctx(), e.key("large"), p, 7<<20); err != nil || !bytes.Equal(p, body[7<<20:]) {
		e.Fatalf("read the last MiB: error %v, equal %v", err, bytes.Equal(p, body[7<<20:]))
	}
}

func testAbsent(e *env) {
	_, err := e.store.Get(e.ctx(), e.key("absent"))
	e.wantErr("get", err, objectstore.ErrNotFound)
	e.wantErr("read", e.store.ReadAt(e.ctx(), e.key("absent"), make([]byte, 1), 0), objectstore.ErrNotFound)
	e.wantErr("read nothing", e.store.ReadAt(e.ctx(), e.key("absent"), nil, 0), objectstore.ErrNotFound)
	e.put("absent", "no more")
	e.wantBody("absent", []byte("no more"))
}

// wantSummed reads the same with a checksum and wants the same answer.
func (e *env) wantSummed(key string, p []byte, off int64, want error) {
	e.Helper()
	again := make([]byte, len(p))
	sum, err := objectstore.ReadSummed(e.ctx(), e.store, e.key(key), again, off)
	for _, known := range []error{objectstore.ErrRange, objectstore.ErrNotFound} {
		if errors.Is(err, known) != errors.Is(want, known) {
			e.Errorf("read %d bytes at %d with a checksum: %v, without: %v", len(p), off, err, want)
		}
	}
	if err == nil && (!bytes.Equal(again, p) || sum != crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))) {
		e.Errorf("read %d bytes at %d with a checksum: other bytes, or checksum %08x", len(p), off, sum)
	}
}

func testReadAt(e *env) {
	const body = "0123456789"
	e.put("digits", body)
	for _, c := range []struct {
		off  int64
		n    int
		want error
	}{
		{0, 10, nil}, {0, 1, nil}, {9, 1, nil}, {3, 4, nil}, {0, 0, nil}, {10, 0, nil},
		{0, 11, objectstore.ErrRange},
		{9, 2, objectstore.ErrRange},
		{10, 1, objectstore.ErrRange},
		{11, 0, objectstore.ErrRange},
		{1 << 40, 1, objectstore.ErrRange},
		{-1, 1, objectstore.ErrRange},
	} {
		p := make([]byte, c.n)
		err := e.store.ReadAt(e.ctx(), e.key("digits"), p, c.off)
		e.wantSummed("digits", p, c.off, err)
		if !errors.Is(err, c.want) {
			e.Errorf("read %d bytes at %d: got error %v, want %v", c.n, c.off, err, c.want)
		}
		if err == nil && string(p) != body[c.off:c.off+int64(c.n)] {
			e.Errorf("read %d bytes at %d: got %q, want %q", c.n, c.off, p, body[c.off:c.off+int64(c.n)])
		}
	}
}

func testList(e *env) {
	names := []string{"a/1", "a/2", "a/b/1", "a0/1", "a-b/1", "b/1", "c"}
	for _, name := range names {
		e.put(name, name)
	}
	sorted := slices.Sorted(slices.Values(names))
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", sorted},
		{"a", "", []string{"a-b/1", "a/1", "a/2", "a/b/1", "a0/1"}},
		{"a/", "", []string{"a/1", "a/2", "a/b/1"}},
		{"a/", "a/1", []string{"a/2", "a/b/1"}},
		{"a/", "a/10", []string{"a/2", "a/b/1"}},
		{"a/", "a/z", []string{}},
		{"a/", "a", []string{"a/1", "a/2", "a/b/1"}},
		{"", "a/b/1", []string{"a0/1", "b/1", "c"}},
		{"", "b", []string{"b/1", "c"}},
		{"c", "", []string{"c"}},
		{"nothing", "", []string{}},
	} {
		if diff := cmp.Diff(c.want, e.list(c.prefix, c.after)); diff != "" {
			e.Errorf("list %q after %q (-want +got):\n%s", c.prefix, c.after, diff)
		}
	}
	for info, err := range e.store.List(e.ctx(), e.key("a/b/"), "") {
		if err != nil || info.Size != int64(len("a/b/1")) {
			e.Errorf("list: got size %d, error %v; want size %d", info.Size, err, len("a/b/1"))
		}
	}
}

func testListMany(e *env) {
	var want []string
	var group sync.WaitGroup
	for worker := range 4 {
		for i := range 75 {
			want = append(want, fmt.Sprintf("many/%05d", 4*i+worker))
		}
		group.Go(func() {
			for i := range 75 {
				key := e.key(fmt.Sprintf("many/%05d", 4*i+worker))
				if err := e.store.Put(e.ctx(), key, []byte("x")); err != nil {
					e.Errorf("put: %v", err)
				}
			}
		})
	}
	group.Wait()
	slices.Sort(want)
	if diff := cmp.Diff(want, e.list("many/", "")); diff != "" {
		e.Errorf("list (-want +got):\n%s", diff)
	}
	seen := 0
	for _, err := range e.store.List(e.ctx(), e.key("many/"), "") {
		if err != nil {
			e.Fatalf("list: %v", err)
		}
		if seen++; seen == 3 {
			break
		}
	}
}

func testDelete(e *env) {
	e.put("a", "1")
	e.put("b", "2")
	e.put("c", "3")
	for range 2 {
		if err := e.store.Delete(e.ctx(), e.key("a"), e.key("b"), e.key("never")); err != nil {
			e.Fatalf("delete: %v", err)
		}
	}
	if err := e.store.Delete(e.ctx()); err != nil {
		e.Fatalf("delete nothing: %v", err)
	}
	_, err := e.store.Get(e.ctx(), e.key("a"))
	e.wantErr("get a deleted object", err, objectstore.ErrNotFound)
	e.wantErr("read a deleted object", e.store.ReadAt(e.ctx(), e.key("b"), make([]byte, 1), 0), objectstore.ErrNotFound)
	if diff := cmp.Diff([]string{"c"}, e.list("", "")); diff != "" {
		e.Errorf("list after delete (-want +got):\n%s", diff)
	}
	e.put("a", "again")
	e.wantBody("a", []byte("again"))
}

// Only what every store must take: S3 services refuse "//" and dot segments, and MinIO does not list what is below a
// key that is an object, so Tidemill uses no such keys.
func testOddKeys(e *env) {
	names := []string{
		"Upper", "upper", "sp ace", "plus+plus", "per%cent", "per%2fcent", "question?mark", "hash#tag", "and&and=is", "tilde~", "semi;colon:",
		"quote'quote", "paren(s)[b]", "dollar$at@", "comma,", "dot.", ".hidden", "..hidden", ".tmp/x", "x.obj", "y.obj/y", "ünïcode/日本", "emoji 🌊", strings.Repeat("long-folder/", 40) + "end",
	}
	for _, name := range names {
		e.put(name, "body of "+name)
	}
	for _, name := range names {
		e.wantBody(name, []byte("body of "+name))
		p := make([]byte, 4)
		if err := e.store.ReadAt(e.ctx(), e.key(name), p, 0); err != nil || string(p) != "body" {
			e.Errorf("read %q: got %q, error %v", name, p, err)
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(names)), e.list("", "")); diff != "" {
		e.Errorf("list (-want +got):\n%s", diff)
	}
	for _, name := range names {
		if err := e.store.Delete(e.ctx(), e.key(name)); err != nil {
			e.Errorf("delete %q: %v", name, err)
		}
	}
	if diff := cmp.Diff([]string{}, e.list("", "")); diff != "" {
		e.Errorf("list after delete (-want +got):\n%s", diff)
	}
}

func testEnded(e *env) {
	e.put("a", "1")
	ctx, cancel := context.WithCancel(e.ctx())
	cancel()
	err := e.store.Put(ctx, e.key("b"), []byte("2"))
	e.wantErr("put", err, context.Canceled)
	e.wantErr("put", err, objectstore.ErrAmbiguous)
	_, err = e.store.Get(ctx, e.key("a"))
	e.wantErr("get", err, context.Canceled)
	e.wantErr("read", e.store.ReadAt(ctx, e.key("a"), make([]byte, 1), 0), context.Canceled)
	e.wantErr("delete", e.store.Delete(ctx, e.key("a")), context.Canceled)
	err = nil
	for _, err = range e.store.List(ctx, e.prefix, "") {
		if err != nil {
			break
		}
	}
	e.wantErr("list", err, context.Canceled)
	e.wantBody("a", []byte("1"))
}

func testConcurrent(e *env) {
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 10 {
				key := e.key(fmt.Sprintf("worker-%d/%d", worker, i))
				body := fmt.Appendf(nil, "%d of %d", i, worker)
				if err := create(e.ctx(), e.store, key, body); err != nil {
					e.Errorf("put: %v", err)
				}
				if got, err := e.store.Get(e.ctx(), key); err != nil || !bytes.Equal(got, body) {
					e.Errorf("get: got %q, error %v; want %q", got, err, body)
				}
			}
		})
	}
	group.Wait()
	if got := len(e.list("worker-", "")); got != 80 {
		e.Errorf("list: got %d objects, want 80", got)
	}
}
