package audit

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A Class tells kinds of problems apart.
type Class string

// The classes of problems.
const (
	// Missing: an object that something refers to is not there.
	Missing Class = "missing"
	// Damaged: an object's bytes are not what was written.
	Damaged Class = "damaged"
	// Mismatch: two places that should agree do not: a manifest and its head, an index and a part, a directory and an extent.
	Mismatch Class = "mismatch"
	// Offsets: a hole or an overlap that neither compaction nor a marker explains.
	Offsets Class = "offsets"
	// Epochs: leader epochs go back, or are not those of the partition's history.
	Epochs Class = "epochs"
	// Log: a life's log breaks a rule of package wal: its chain, its window (W3), its end (S4-S6, G3).
	Log Class = "log"
	// Ownership: metadata's own records do not fit together.
	Ownership Class = "ownership"
)

// A Problem is something that a person has to look at.
type Problem struct {
	Class Class `json:"class"`
	// Key names the object; empty when the problem is in metadata alone.
	Key string `json:"key,omitempty"`
	// Topic and Partition say whose data it is, where that is known; First and Last its offsets.
	Topic     string `json:"topic,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
	First     *int64 `json:"first_offset,omitempty"`
	Last      *int64 `json:"last_offset,omitempty"`
	Message   string `json:"message"`
}

// String returns the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", p.Class)
	if p.Key != "" {
		fmt.Fprintf(&b, " %s:", p.Key)
	}
	if p.Topic != "" && p.Partition != nil {
		fmt.Fprintf(&b, " %s/%d", p.Topic, *p.Partition)
		if p.First != nil && p.Last != nil {
			fmt.Fprintf(&b, " offsets %d-%d", *p.First, *p.Last)
		}
		b.WriteString(":")
	}
	return b.String() + " " + p.Message
}

// A Leak is a class of objects that nothing needs, or that nothing needs yet. They are no problem.
type Leak struct {
	Class   string `json:"class"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
	// Keys are the first ones, at most 100.
	Keys []string `json:"keys"`
}

// The classes of leaks.
const (
	// LeakPending: written lately or by a life that is open; something may refer to it soon.
	LeakPending = "pending"
	// LeakSegment and LeakManifest: no manifest, or no head, refers to it. It waits for its deletion.
	LeakSegment  = "unreferenced-segment"
	LeakManifest = "superseded-manifest"
	// LeakTrimmed: a slot below its log's trim: it waits for its deletion, or a late duplicate brought it back (G4).
	LeakTrimmed = "trimmed-slot"
	// LeakOrphan: a slot behind the end of its log (G4).
	LeakOrphan = "orphan-slot"
	// LeakRecovery: a recovery object that is not its life's decision.
	LeakRecovery = "unreferenced-recovery"
	// LeakLife: a slot of a life that metadata does not know.
	LeakLife = "unknown-life"
	// LeakProbe: what the probe of a start left.
	LeakProbe = "probe"
	// LeakUnknown: not a key that Tidemill writes.
	LeakUnknown = "unknown"
)

// A Report is the outcome of Check.
type Report struct {
	// OK: no problem was found.
	OK      bool      `json:"ok"`
	Cluster string    `json:"cluster"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	// Data: records were read too.
	Data bool `json:"data"`
	// Objects and Bytes are those in the bucket, the others what was looked at. Batches count once for each copy.
	Objects    int64 `json:"objects"`
	Bytes      int64 `json:"bytes"`
	Lives      int64 `json:"lives"`
	Partitions int64 `json:"partitions"`
	Parts      int64 `json:"parts"`
	Batches    int64 `json:"batches"`
	// Problems are at most 1000; ProblemCount counts all.
	Problems     []Problem `json:"problems"`
	ProblemCount int64     `json:"problem_count"`
	Leaks        []Leak    `json:"leaks"`
}

const (
	problemsMax = 1000
	leakKeysMax = 100
)

// collector builds a report from many goroutines.
type collector struct {
	mu sync.Mutex
	Report
	keys  map[string]bool
	leaks map[string]*Leak
}

func (c *collector) add(problems ...Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = map[string]bool{}
	}
	for _, p := range problems {
		c.ProblemCount++
		if len(c.Problems) < problemsMax {
			c.Problems = append(c.Problems, p)
			c.keys[p.Key] = true
		}
	}
}

// told reports whether a problem of an object is in the report.
func (c *collector) told(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[key]
}

func (c *collector) count(f func(*Report)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.Report)
}

func (c *collector) leak(class, key string, size int64) {
	if c.leaks == nil {
		c.leaks = map[string]*Leak{}
	}
	l := c.leaks[class]
	if l == nil {
		l = &Leak{Class: class}
		c.leaks[class] = l
	}
	l.Objects++
	l.Bytes += size
	if len(l.Keys) < leakKeysMax {
		l.Keys = append(l.Keys, key)
	}
}

func (c *collector) finish(now time.Time) *Report {
	r := &c.Report
	r.OK, r.Ended = r.ProblemCount == 0, now
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Message, b.Message))
	})
	for _, l := range c.leaks {
		r.Leaks = append(r.Leaks, *l)
	}
	slices.SortFunc(r.Leaks, func(a, b Leak) int { return cmp.Compare(a.Class, b.Class) })
	if r.Problems == nil {
		r.Problems = []Problem{}
	}
	if r.Leaks == nil {
		r.Leaks = []Leak{}
	}
	return r
}

// WriteText prints the report for a person.
func (r *Report) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	data := "all data read"
	if !r.Data {
		data = "data not read"
	}
	fmt.Fprintf(w, "cluster %s: %d objects, %s\n%d lives, %d partitions, %d parts, %d batches, %s in %s\n",
		r.Cluster, r.Objects, size(r.Bytes), r.Lives, r.Partitions, r.Parts, r.Batches, data, r.Ended.Sub(r.Began).Round(time.Millisecond))
	if len(r.Leaks) > 0 {
		fmt.Fprintf(w, "\nNOT NEEDED\tOBJECTS\tBYTES\tFOR EXAMPLE\n")
	}
	for _, l := range r.Leaks {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", l.Class, l.Objects, size(l.Bytes), l.Keys[0])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, p := range r.Problems {
		fmt.Fprintln(out, p)
	}
	if more := r.ProblemCount - int64(len(r.Problems)); more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	verdict := "clean"
	if !r.OK {
		verdict = fmt.Sprintf("%d problems", r.ProblemCount)
	}
	_, err := fmt.Fprintln(out, verdict)
	return err
}

// size prints bytes with a unit.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
