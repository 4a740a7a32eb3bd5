package verify

import (
	"cmp"
	"fmt"
	"slices"
)

// checkSends looks for every acknowledged record at its offset.
func (p *part) checkSends() {
	for _, s := range p.sends {
		if s.Outcome != Acknowledged || !p.known(s.Offset) {
			continue
		}
		i, ok := p.at(s.Offset)
		switch {
		case !ok:
			// The neighbours show that the reading did not just end before.
			p.found(LostWrite, 2, s.Begin, func() (string, *History) {
				text := fmt.Sprintf("%v was acknowledged at offset %d, and nothing is there", s.ID, s.Offset)
				return text, p.example(s, cutLog(p.log, i-1, i))
			})
		case p.log.Records[i].ID != s.ID || p.log.Records[i].Sum != s.Sum:
			p.found(WrongContent, 3, s.Begin, func() (string, *History) {
				text := fmt.Sprintf("%v was acknowledged at offset %d, and something else is there", s.ID, s.Offset)
				return text, p.example(s, cutLog(p.log, i))
			})
		}
	}
}

// checkOrder holds the order of each producer's acknowledged records against the order of their offsets.
func (p *part) checkOrder() {
	acked := make([]*Send, 0, len(p.sends))
	for _, s := range p.sends {
		if s.Outcome == Acknowledged {
			acked = append(acked, s)
		}
	}
	slices.SortStableFunc(acked, func(a, b *Send) int {
		return cmp.Or(cmp.Compare(a.Producer, b.Producer), cmp.Compare(a.Sequence, b.Sequence))
	})
	var highest *Send
	for _, s := range acked {
		if highest == nil || highest.Producer != s.Producer || s.Offset >= highest.Offset {
			highest = s
			continue
		}
		earlier := highest
		p.found(Reordered, 2, s.Begin, func() (string, *History) {
			text := fmt.Sprintf("producer %d sent record %d before record %d to partition %d, and they are at offsets %d and %d",
				s.Producer, earlier.Sequence, s.Sequence, p.partition, earlier.Offset, s.Offset)
			return text, p.example(earlier, s)
		})
	}
}

// checkLog asks of every record in the log whether it may be there.
func (p *part) checkLog() {
	if p.log == nil {
		return
	}
	first := make(map[ID]int, len(p.log.Records))
	for i, r := range p.log.Records {
		s := p.sent[r.ID]
		if j, ok := first[r.ID]; ok && !r.Damaged {
			p.found(Duplicate, 3, p.log.Begin, func() (string, *History) {
				text := fmt.Sprintf("%v is at offset %d and again at offset %d", r.ID, p.log.Records[j].Offset, r.Offset)
				return text, p.example(p.log.with(s, j, i)...)
			})
		}
		if !r.Damaged {
			first[r.ID] = i
		}
		switch {
		case r.Damaged || s != nil && s.Sum != r.Sum:
			p.found(WrongContent, 2, p.log.Begin, func() (string, *History) {
				return fmt.Sprintf("the value at offset %d of partition %d is not what a producer sent", r.Offset, p.partition),
					p.example(p.log.with(s, i)...)
			})
		case s != nil && s.Outcome == Failed:
			p.found(RejectedWrite, 3, s.Begin, func() (string, *History) {
				return fmt.Sprintf("%v was refused (%s), and is at offset %d", r.ID, s.Error, r.Offset), p.example(s, cutLog(p.log, i))
			})
		case s == nil && p.senders[r.Producer]:
			p.found(NeverSent, 2, p.log.Begin, func() (string, *History) { return p.tellNeverSent(i) })
		}
	}
}

// tellNeverSent adds a send of the producer: that it sent other records shows that its sends were recorded.
func (p *part) tellNeverSent(i int) (string, *History) {
	r := p.log.Records[i]
	h := p.example(cutLog(p.log, i))
	for j := range p.history.Sends {
		if s := &p.history.Sends[j]; s.Producer == r.Producer {
			h.Sends = append(h.Sends, *s)
			break
		}
	}
	return fmt.Sprintf("offset %d of partition %d holds %v, which that producer never sent there", r.Offset, p.partition, r.ID), h
}

// with returns the log with some of its records, and the send of one of them where there is one.
func (l *Log) with(s *Send, keep ...int) []any {
	if s == nil {
		return []any{cutLog(l, keep...)}
	}
	return []any{s, cutLog(l, keep...)}
}
