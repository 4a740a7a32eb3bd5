package verify

import (
	"fmt"
	"strings"
)

// A reader is a consumer of one partition between two moves.
type reader struct {
	consumer string
	session  int32
}

// A cursor is where a reader is.
type cursor struct {
	position int64 // -1: not known yet
	poll     *Poll // that returned the last record, at index
	index    int
}

// readers returns the consumers that read every partition from its start to its end.
func (h *History) readers() map[string]bool {
	all := map[string]bool{}
	for i := range h.Polls {
		if h.Polls[i].Group == "" {
			all[h.Polls[i].Consumer] = true
		}
	}
	return all
}

// checkReads follows every reader through the log. It returns how many records are left that readers without a group did
// not come to.
func (p *part) checkReads(everyone map[string]bool) (unread int64) {
	cursors := map[reader]*cursor{}
	last := map[string]*cursor{} // of a consumer's last session
	for _, poll := range p.polls {
		key := reader{poll.Consumer, poll.Session}
		c := cursors[key]
		if c == nil {
			c = &cursor{position: poll.Position}
			cursors[key] = c
		}
		last[poll.Consumer] = c
		p.checkRefusal(poll)
		for i := range poll.Records {
			p.checkRead(c, poll, i)
			c.position, c.poll, c.index = poll.Records[i].Offset+1, poll, i
		}
	}
	if p.log == nil {
		return 0
	}
	for consumer := range everyone {
		from := 0
		if c := last[consumer]; c != nil {
			from, _ = p.at(c.position)
		}
		unread += int64(len(p.log.Records) - from)
	}
	return unread
}

// checkRead judges record i of a poll by a reader at c.
func (p *part) checkRead(c *cursor, poll *Poll, i int) {
	r := poll.Records[i]
	before := *c
	if r.Offset < c.position {
		p.found(RepeatedRead, 2+records(before.poll), poll.End, func() (string, *History) {
			text := fmt.Sprintf("%s stood at offset %d of partition %d, and was given offset %d", poll.Consumer, before.position, p.partition, r.Offset)
			return text, p.example(before.steps(poll, i)...)
		})
	}
	if p.log == nil {
		return
	}
	if c.position >= 0 && c.position < r.Offset {
		next, _ := p.at(max(c.position, p.log.Start))
		if next < len(p.log.Records) && p.log.Records[next].Offset < r.Offset {
			p.found(SkippedRead, 4+records(before.poll), poll.End, func() (string, *History) {
				text := fmt.Sprintf("%s stood at offset %d of partition %d, and was given offset %d without the record at %d",
					poll.Consumer, before.position, p.partition, r.Offset, p.log.Records[next].Offset)
				return text, p.example(append(before.steps(poll, i), p.around(before.position-1, next, r.Offset))...)
			})
		}
	}
	if !p.known(r.Offset) {
		return
	}
	if at, ok := p.at(r.Offset); !ok || !p.log.Records[at].same(r) {
		p.found(PhantomRead, 3, poll.End, func() (string, *History) {
			text, shown := "is not in the log", cutLog(p.log, at-1, at)
			if ok {
				text, shown = "is another in the log", cutLog(p.log, at)
			}
			return fmt.Sprintf("what %s read at offset %d of partition %d %s", poll.Consumer, r.Offset, p.partition, text),
				p.example(cutPoll(poll, i), shown)
		})
	}
}

// around returns the log with a record that was skipped, and with those before and after it that were read.
func (p *part) around(before int64, skipped int, after int64) *Log {
	var keep []int
	if i, ok := p.at(before); ok {
		keep = append(keep, i)
	}
	keep = append(keep, skipped)
	if i, ok := p.at(after); ok {
		keep = append(keep, i)
	}
	return cutLog(p.log, keep...)
}

// checkRefusal: an offset that the log has, or its end, is in range.
func (p *part) checkRefusal(poll *Poll) {
	if !strings.HasPrefix(poll.Error, "OFFSET_OUT_OF_RANGE") || p.log == nil || poll.Position < p.log.Start || poll.Position > p.log.Limit {
		return
	}
	p.found(RefusedRead, 2, poll.End, func() (string, *History) {
		text := fmt.Sprintf("%s was told that offset %d of partition %d is out of range", poll.Consumer, poll.Position, p.partition)
		return text, p.example(poll, cutLog(p.log))
	})
}

// records is how much a poll adds to an example: itself and one record, or nothing.
func records(poll *Poll) int {
	if poll == nil {
		return 0
	}
	return 2
}

// steps returns how a reader came from c to record i of a poll, with one record before and one after.
func (c cursor) steps(poll *Poll, i int) []any {
	switch c.poll {
	case nil:
		first := cutPoll(poll, i)
		first.Position = c.position
		return []any{first}
	case poll:
		return []any{cutPoll(poll, c.index, i)}
	default:
		return []any{cutPoll(c.poll, c.index), cutPoll(poll, i)}
	}
}

// cutPoll returns the poll with only some of its records, and a position that fits.
func cutPoll(poll *Poll, keep ...int) *Poll {
	out := *poll
	out.Records = nil
	for _, i := range keep {
		out.Records = append(out.Records, poll.Records[i])
	}
	out.Position = out.Records[0].Offset
	return &out
}
