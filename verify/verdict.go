package verify

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Counts says how much a history holds.
type Counts struct {
	Sent, Acknowledged, Failed, Unknown int64 // records
	Read, ReadByGroups                  int64 // records
	Commits                             int64 // acknowledged ones
	InLog                               int64 // records in the final log
	// Unread are records that consumers without a group had not come to when the run ended. A consumer that is slow is not
	// an anomaly; one that stands still is a reason to look.
	Unread int64
}

// A Verdict is what Check found.
type Verdict struct {
	Topic      string
	Partitions int32
	Counts     Counts
	// Longest and LongestInPartition are the longest gaps between acknowledgements, of all partitions together and of one,
	// from the first send to the last outcome.
	Longest, LongestInPartition Gap
	Anomalies                   []Anomaly
	// Unjudged says what could not be judged, because the final log was not read or not to its end.
	Unjudged []string
	// FirstError is that of the first send that failed or has an unknown outcome.
	FirstError string
}

// OK reports whether everything could be judged and nothing is wrong.
func (v Verdict) OK() bool { return len(v.Anomalies) == 0 && len(v.Unjudged) == 0 }

// Count returns how many records, polls and other events the history holds.
func (h *History) Count() Counts {
	var c Counts
	for i := range h.Sends {
		c.Sent++
		switch h.Sends[i].Outcome {
		case Acknowledged:
			c.Acknowledged++
		case Failed:
			c.Failed++
		default:
			c.Unknown++
		}
	}
	for i := range h.Polls {
		if p := &h.Polls[i]; p.Group == "" {
			c.Read += int64(len(p.Records))
		} else {
			c.ReadByGroups += int64(len(p.Records))
		}
	}
	for i := range h.Commits {
		if h.Commits[i].Outcome == Acknowledged {
			c.Commits++
		}
	}
	for i := range h.Logs {
		c.InLog += int64(len(h.Logs[i].Records))
	}
	return c
}

func (f *finder) verdict(parts []*part, unread int64) Verdict {
	h := f.history
	v := Verdict{Topic: h.Topic, Partitions: h.Partitions, Counts: h.Count()}
	v.Counts.Unread = unread
	from, to := h.window()
	v.Longest, v.LongestInPartition = h.LongestGap(from, to), h.LongestPartitionGap(from, to)
	for kind, s := range f.cases {
		text, example := s.tell()
		v.Anomalies = append(v.Anomalies, Anomaly{Kind: kind, Count: s.count, Explanation: text, Counterexample: example})
	}
	slices.SortFunc(v.Anomalies, func(a, b Anomaly) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
	for _, p := range parts {
		switch {
		case p.log == nil && len(p.sends)+len(p.polls) > 0:
			v.Unjudged = append(v.Unjudged, fmt.Sprintf("partition %d: its final log was not read", p.partition))
		case p.log != nil && p.log.ReadTo < p.log.Limit:
			v.Unjudged = append(v.Unjudged,
				fmt.Sprintf("partition %d: its final log could be read to offset %d of %d only", p.partition, p.log.ReadTo, p.log.Limit))
		}
	}
	for i := range h.Sends {
		if h.Sends[i].Outcome != Acknowledged && h.Sends[i].Error != "" {
			v.FirstError = h.Sends[i].Error
			break
		}
	}
	return v
}

// WriteText prints the verdict for a person.
func (v Verdict) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	c := v.Counts
	fmt.Fprintf(w, "topic\t%s, partitions %d\n", v.Topic, v.Partitions)
	fmt.Fprintf(w, "sent\t%d records: %d acknowledged, %d failed, %d unknown\n", c.Sent, c.Acknowledged, c.Failed, c.Unknown)
	fmt.Fprintf(w, "read\t%d records, %d more by groups; not come to: %d\n", c.Read, c.ReadByGroups, c.Unread)
	fmt.Fprintf(w, "stored\t%d records\n", c.InLog)
	fmt.Fprintf(w, "commits\t%d acknowledged\n", c.Commits)
	fmt.Fprintf(w, "longest gap between acknowledgements\t%v\n", v.Longest)
	fmt.Fprintf(w, "the same in one partition\t%v\n", v.LongestInPartition)
	if v.FirstError != "" {
		fmt.Fprintf(w, "first error of a producer\t%s\n", v.FirstError)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print verdict: %w", err)
	}
	var b strings.Builder
	for _, a := range v.Anomalies {
		fmt.Fprintf(&b, "\n%s: %d. The shortest:\n  %s\n%s", strings.ToUpper(string(a.Kind)), a.Count, a.Explanation, a.Counterexample.text())
	}
	for _, what := range v.Unjudged {
		fmt.Fprintf(&b, "not judged: %s\n", what)
	}
	if v.OK() {
		b.WriteString("good: nothing contradicts what the clients were told\n")
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print verdict: %w", err)
	}
	return nil
}

func (g Gap) String() string {
	where := ""
	if g.Partition != AllPartitions {
		where = fmt.Sprintf(", partition %d", g.Partition)
	}
	return fmt.Sprintf("%v, from %v to %v%s", round(g.Length()), round(g.From), round(g.To), where)
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
