package verify

import (
	"cmp"
	"fmt"
	"slices"
)

// A bound says that an offset was at least so high when an event was over.
type bound struct {
	Span
	offset int64
	event  any
}

// A regression is a later observation below an earlier bound.
type regression struct{ earlier, later bound }

// regressions returns, for every observation, the highest bound that was certain before it began, if it is above it.
func regressions(bounds, observations []bound) []regression {
	slices.SortStableFunc(bounds, func(a, b bound) int { return cmp.Compare(a.End, b.End) })
	slices.SortStableFunc(observations, func(a, b bound) int { return cmp.Compare(a.Begin, b.Begin) })
	var out []regression
	var highest bound
	highest.offset = -1
	next := 0
	for _, o := range observations {
		for ; next < len(bounds) && bounds[next].Before(o.Span); next++ {
			if bounds[next].offset > highest.offset {
				highest = bounds[next]
			}
		}
		if o.offset < highest.offset {
			out = append(out, regression{highest, o})
		}
	}
	return out
}

// checkEndOffsets: a high watermark never goes back, nor below what was acknowledged or read before. The end of the final
// log is held against high watermarks only: what is lost of the rest is told as such.
func (p *part) checkEndOffsets() {
	seen := make([]bound, 0, len(p.ends))
	for _, e := range p.ends {
		seen = append(seen, bound{e.Span, e.Offset, e})
	}
	certain := slices.Clone(seen)
	for _, s := range p.sends {
		if s.Outcome == Acknowledged {
			certain = append(certain, bound{s.Span, s.Offset + 1, s})
		}
	}
	for _, poll := range p.polls {
		if n := len(poll.Records); n > 0 {
			certain = append(certain, bound{poll.Span, poll.Records[n-1].Offset + 1, poll})
		}
	}
	found := regressions(certain, slices.Clone(seen))
	if p.log != nil {
		found = append(found, regressions(seen, []bound{{p.log.Span, p.log.Limit, p.log}})...)
	}
	for _, r := range found {
		p.found(HighWatermarkBack, 2, r.later.Begin, func() (string, *History) {
			text := fmt.Sprintf("the high watermark of partition %d was %d or more, and then %d", p.partition, r.earlier.offset, r.later.offset)
			return text, p.example(r.earlier.short(), r.later.short())
		})
	}
}

// short returns the event with no more than the records that it is about.
func (b bound) short() any {
	switch e := b.event.(type) {
	case *Poll:
		return cutPoll(e, len(e.Records)-1)
	case *Log:
		return cutLog(e)
	}
	return b.event
}

// checkCommits: a committed offset never goes back.
func (f *finder) checkCommits() {
	type place struct {
		group     string
		partition int32
	}
	certain, seen := map[place][]bound{}, map[place][]bound{}
	var places []place
	for i := range f.history.Commits {
		if c := &f.history.Commits[i]; c.Outcome == Acknowledged {
			at := place{c.Group, c.Partition}
			certain[at] = append(certain[at], bound{c.Span, c.Offset, c})
		}
	}
	for i := range f.history.Committed {
		c := &f.history.Committed[i]
		at := place{c.Group, c.Partition}
		if seen[at] == nil {
			places = append(places, at)
		}
		seen[at] = append(seen[at], bound{c.Span, c.Offset, c})
		certain[at] = append(certain[at], bound{c.Span, c.Offset, c})
	}
	for _, at := range places {
		for _, r := range regressions(certain[at], seen[at]) {
			f.found(CommitBack, 2, r.later.Begin, func() (string, *History) {
				text := fmt.Sprintf("the committed offset of group %s in partition %d was %d or more, and then %s",
					at.group, at.partition, r.earlier.offset, committedText(r.later.offset))
				return text, f.example(r.earlier.event, r.later.event)
			})
		}
	}
}

func committedText(offset int64) string {
	if offset < 0 {
		return "there was none"
	}
	return fmt.Sprint(offset)
}
