package s3sim

import (
	"crypto/md5"
	"encoding/hex"
	"maps"
	"sort"
	"strings"
	"sync"
	"time"
)

// bigBody is the size from which on a body may go to the overflow when KeepBytes is set.
const bigBody = 64 << 10

type object struct {
	body     []byte
	size     int
	etag     string
	modified time.Time
	over     bool  // the body went to the overflow for want of room, or is on its way
	pos      int64 // where it is there, once body is nil
}

// objects is one bucket in memory, with its keys sorted.
type objects struct {
	mu     sync.RWMutex
	byKey  map[string]*object
	keys   []string // sorted, but for the newest
	sorted int      // how many of keys are

	held map[string]Holding // by the first part of keys

	keep     int64     // bytes of big bodies in memory; 0: all
	kept     int64     // so far
	ages     []*object // big ones, oldest first
	overflow overflow
}

func newObjects(keep int64) *objects {
	return &objects{byKey: map[string]*object{}, held: map[string]Holding{}, keep: keep}
}

// hold counts objects and bytes that came or went. The caller holds o.mu.
func (o *objects) hold(key string, n, bytes int) {
	part := firstPart(key)
	h := Holding{o.held[part].Objects + int64(n), o.held[part].Bytes + int64(bytes)}
	if o.held[part] = h; h == (Holding{}) {
		delete(o.held, part)
	}
}

// holdings returns what is there.
func (o *objects) holdings() map[string]Holding {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return maps.Clone(o.held)
}

// condition of a PUT: absent is If-None-Match: *, etag that of If-Match.
type condition struct {
	absent bool
	etag   string
}

// put stores body, which it keeps, if the condition holds; else it returns false, and the body may be used again.
func (o *objects) put(key string, body []byte, etag string, c condition) bool {
	oldest, ok := o.store(key, body, etag, c)
	for _, obj := range oldest {
		o.spill(obj)
	}
	return ok
}

// store puts, and returns the objects that memory has no more room for.
func (o *objects) store(key string, body []byte, etag string, c condition) (oldest []*object, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.byKey[key]
	if c.absent && old != nil || c.etag != "" && (old == nil || old.etag != c.etag) {
		return nil, false
	}
	if old == nil {
		o.keys = append(o.keys, key)
	} else {
		o.hold(key, -1, -old.size)
		o.yield(old)
	}
	o.hold(key, 1, len(body))
	obj := &object{body: body, size: len(body), etag: etag, modified: time.Now()}
	o.byKey[key] = obj
	if o.keep > 0 && len(body) >= bigBody {
		o.kept += int64(len(body))
		o.ages = append(o.ages, obj)
		for o.kept > o.keep && len(o.ages) > 1 {
			first := o.ages[0]
			o.ages = o.ages[1:]
			if o.yield(first) {
				oldest = append(oldest, first)
			}
		}
	}
	return oldest, true
}

// yield lets the next body have the room of a big one, unless it has none: it was deleted. The caller holds o.mu.
func (o *objects) yield(obj *object) bool {
	if o.keep == 0 || obj.over || obj.size < bigBody {
		return false
	}
	o.kept -= int64(obj.size)
	obj.over = true
	return true
}

// spill moves a body to the overflow. One that has no room there stays in memory.
func (o *objects) spill(obj *object) {
	pos, err := o.overflow.add(obj.body)
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	obj.body, obj.pos = nil, pos
}

// read returns bytes of an object that get returned.
func (o *objects) read(obj object, from, upTo int) ([]byte, error) {
	if obj.body != nil || obj.size == 0 {
		return obj.body[from:upTo], nil
	}
	p := make([]byte, upTo-from)
	return p, o.overflow.read(p, obj.pos+int64(from))
}

func (o *objects) get(key string) (object, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	obj, ok := o.byKey[key]
	if !ok {
		return object{}, false
	}
	return *obj, true
}

func (o *objects) delete(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if obj, ok := o.byKey[key]; ok {
		o.hold(key, -1, -obj.size)
		o.yield(obj)
		delete(o.byKey, key) // the key leaves the list when that is next sorted
	}
}

type listed struct {
	key string
	object
}

// list returns up to limit objects with prefix after a key, and whether there are more.
func (o *objects) list(prefix, after string, limit int) (page []listed, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sort()
	from := max(after+"\x00", prefix)
	if after == "" {
		from = prefix
	}
	for _, key := range o.keys[sort.SearchStrings(o.keys, from):] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, listed{key, *o.byKey[key]})
	}
	return page, false
}

// sort brings keys in order and drops those that were deleted or came twice. The caller holds o.mu.
func (o *objects) sort() {
	if o.sorted == len(o.keys) && len(o.keys) == len(o.byKey) {
		return
	}
	sort.Strings(o.keys)
	kept := o.keys[:0]
	for i, key := range o.keys {
		if i > 0 && len(kept) > 0 && kept[len(kept)-1] == key {
			continue
		}
		if o.byKey[key] != nil {
			kept = append(kept, key)
		}
	}
	o.keys, o.sorted = kept, len(kept)
}

func md5Etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}
