package s3sim

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Counts are requests and bytes of one operation.
type Counts struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"` // of bodies, as received or sent
}

// Stats are counted since the start.
type Stats struct {
	Ops    map[Op]Counts            `json:"ops"`
	ByKey  map[string]map[Op]Counts `json:"byKey"`  // by the first part of the key
	Status map[int]int64            `json:"status"` // answers by HTTP status
	// LastPut is how long the latest PUT took, from its first byte to its answer.
	LastPut time.Duration `json:"lastPut"`
	// Stored is what lies in the bucket now, by the first part of the key.
	Stored map[string]Holding `json:"stored"`
}

// A Holding is objects and the bytes of their bodies.
type Holding struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// Requests sums the requests of operations.
func (s Stats) Requests(ops ...Op) (n int64) {
	for _, op := range ops {
		n += s.Ops[op].Requests
	}
	return n
}

// Since returns what was counted after the earlier Stats; what is stored stays as it is now.
func (s Stats) Since(earlier Stats) Stats {
	minus := func(a, b map[Op]Counts) map[Op]Counts {
		out := map[Op]Counts{}
		for op, c := range a {
			if d := (Counts{c.Requests - b[op].Requests, c.Bytes - b[op].Bytes}); d != (Counts{}) {
				out[op] = d
			}
		}
		return out
	}
	out := Stats{Ops: minus(s.Ops, earlier.Ops), ByKey: map[string]map[Op]Counts{}, Status: map[int]int64{}}
	out.Stored = s.Stored
	for key, ops := range s.ByKey {
		if d := minus(ops, earlier.ByKey[key]); len(d) > 0 {
			out.ByKey[key] = d
		}
	}
	for status, n := range s.Status {
		if d := n - earlier.Status[status]; d != 0 {
			out.Status[status] = d
		}
	}
	return out
}

type counter struct {
	mu    sync.Mutex
	stats Stats
}

func newCounter() *counter {
	return &counter{stats: Stats{Ops: map[Op]Counts{}, ByKey: map[string]map[Op]Counts{}, Status: map[int]int64{}}}
}

func (c *counter) count(op Op, key string, bytes, status int) {
	segment := firstPart(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	add := func(m map[Op]Counts) {
		n := m[op]
		m[op] = Counts{n.Requests + 1, n.Bytes + int64(bytes)}
	}
	add(c.stats.Ops)
	if c.stats.ByKey[segment] == nil {
		c.stats.ByKey[segment] = map[Op]Counts{}
	}
	add(c.stats.ByKey[segment])
	c.stats.Status[status]++
}

func firstPart(key string) string {
	part, _, _ := strings.Cut(key, "/")
	return part
}

func (c *counter) lastPut(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.LastPut = d
}

func (c *counter) serve(w http.ResponseWriter, stored map[string]Holding) {
	c.mu.Lock()
	stats := c.stats
	stats.Stored = stored
	raw, err := json.Marshal(stats)
	c.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw) // a reader that has gone needs nothing
}
