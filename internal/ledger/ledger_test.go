package ledger

import (
	"strings"
	"testing"
)

func TestContradictions(t *testing.T) {
	at := func(offset int64) Place { return Place{Topic: "t", Offset: offset} }
	for name, c := range map[string]struct {
		told  func(*Ledger)
		final map[Place]string
		want  string // "": none
	}{
		"as told":                  {func(l *Ledger) { l.Ack(at(0), "a"); l.See(at(0), "a"); l.See(at(0), "a") }, map[Place]string{at(0): "a"}, ""},
		"more than told":           {func(l *Ledger) { l.Lose() }, map[Place]string{at(0): "a"}, ""},
		"lost":                     {func(l *Ledger) { l.Ack(at(0), "a") }, nil, `acknowledged "a" at t/0@0 is missing`},
		"another in its place":     {func(l *Ledger) { l.Ack(at(0), "a") }, map[Place]string{at(0): "b"}, `which now holds "b"`},
		"read and gone":            {func(l *Ledger) { l.See(at(0), "a") }, nil, `a consumer read "a"`},
		"one place for two":        {func(l *Ledger) { l.Ack(at(0), "a"); l.Ack(at(0), "b") }, map[Place]string{at(0): "b"}, `for "a" and for "b"`},
		"a place that changed":     {func(l *Ledger) { l.See(at(0), "a"); l.See(at(0), "b") }, map[Place]string{at(0): "b"}, `as "a" and as "b"`},
		"twice":                    {func(*Ledger) {}, map[Place]string{at(0): "a", at(1): "a"}, `"a" is there twice`},
		"twice, where that may be": {func(*Ledger) {}, map[Place]string{{Topic: "many"}: "a", {Topic: "many", Offset: 1}: "a"}, ""},
		"what a client says":       {func(l *Ledger) { l.Fail("refused: %d", 7) }, nil, "refused: 7"},
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			c.told(l)
			got := l.Contradictions(c.final, "t")
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
