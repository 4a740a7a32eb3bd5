package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// text prints a small history, one event a line in the order in which they began.
func (h *History) text() string {
	type told struct {
		Span
		text string
	}
	var all []told
	for _, e := range h.Sends {
		all = append(all, told{e.Span, e.text()})
	}
	for _, e := range h.Polls {
		all = append(all, told{e.Span, e.text()})
	}
	for _, e := range h.Commits {
		text := fmt.Sprintf("%s of group %s committed offset %d of partition %d: %v", e.Member, e.Group, e.Offset, e.Partition, e.Outcome)
		all = append(all, told{e.Span, text})
	}
	for _, e := range h.Committed {
		text := fmt.Sprintf("%s asked for the committed offset of group %s in partition %d: %d", e.Client, e.Group, e.Partition, e.Offset)
		if e.Offset < 0 {
			text = fmt.Sprintf("%s asked for the committed offset of group %s in partition %d: none", e.Client, e.Group, e.Partition)
		}
		all = append(all, told{e.Span, text})
	}
	for _, e := range h.EndOffsets {
		all = append(all, told{e.Span, fmt.Sprintf("%s saw high watermark %d of partition %d", e.Client, e.Offset, e.Partition)})
	}
	for _, e := range h.Logs {
		all = append(all, told{e.Span, e.text()})
	}
	slices.SortStableFunc(all, func(a, b told) int { return cmp.Compare(a.Begin, b.Begin) })
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "    %9.3fs to %9.3fs  %s\n", e.Begin.Seconds(), e.End.Seconds(), e.text)
	}
	return b.String()
}

func (s Send) text() string {
	text := fmt.Sprintf("producer %d sent record %d to partition %d: %v", s.Producer, s.Sequence, s.Partition, s.Outcome)
	if s.Outcome == Acknowledged {
		return fmt.Sprintf("%s at offset %d", text, s.Offset)
	}
	if s.Error != "" {
		return fmt.Sprintf("%s (%s)", text, s.Error)
	}
	return text
}

func (p Poll) text() string {
	if p.Error != "" {
		return fmt.Sprintf("%s at offset %d of partition %d was told %s", p.Consumer, p.Position, p.Partition, p.Error)
	}
	return fmt.Sprintf("%s read of partition %d %s", p.Consumer, p.Partition, list(p.Records))
}

func (l Log) text() string {
	text := fmt.Sprintf("the final log of partition %d, offsets %d to %d", l.Partition, l.Start, l.Limit)
	if len(l.Records) == 0 {
		return text
	}
	return fmt.Sprintf("%s, has %s", text, list(l.Records))
}

func list(records []Record) string {
	texts := make([]string, len(records))
	for i, r := range records {
		texts[i] = r.String()
	}
	return strings.Join(texts, "; ")
}
