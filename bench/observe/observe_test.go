package observe

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestProcess burns time until it shows.
func TestProcess(t *testing.T) {
	before, err := Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline, n := time.Now().Add(time.Minute), 0; ; n++ {
		after, err := Process(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU() >= before.CPU()+5*tick {
			if after.RSS <= 0 || after.PeakRSS < after.RSS {
				t.Errorf("usage %+v", after)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no CPU time after %d looks: %+v", n, after)
		}
	}
}

func TestMetrics(t *testing.T) {
	m, err := parse(strings.NewReader("# HELP a b\na{op=\"get\",outcome=\"ok\"} 3\na{op=\"put\",outcome=\"ok\"} 4\na_b 7\nplain 1.5e+06\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
		ok     bool
	}{
		{"a", nil, 7, true},
		{"a", []string{`op="get"`}, 3, true},
		{"a", []string{`op="get"`, `outcome="lost"`}, 0, false},
		{"plain", nil, 1.5e6, true},
		{"none", nil, 0, false},
	} {
		if got, ok := m.Sum(c.name, c.labels...); got != c.want || ok != c.ok {
			t.Errorf("%s%v: %v, %v, want %v, %v", c.name, c.labels, got, ok, c.want, c.ok)
		}
	}
	if _, err := parse(strings.NewReader("novalue\n")); err == nil {
		t.Error("a line without a value passes")
	}
}

func TestTicks(t *testing.T) {
	before, err := ticks("cpu  10 0 10 60 20 0 0 0 0 0\ncpu0 1\n")
	if err != nil {
		t.Fatal(err)
	}
	after, err := ticks("cpu  100 0 10 60 30 0 0 0 0 0\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := after.IdleSince(before); got != .1 {
		t.Errorf("idle %v, want .1", got)
	}
}
