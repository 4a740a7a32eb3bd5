package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bench/kgodriver"
	"github.com/tidemill/tidemill/bench/report"
)

// soaked is a series of half an hour in which one prefix grows or does not.
func soaked(leak float64) *report.Series {
	var s report.Series
	for i := range 360 {
		s.Add(float64(5*i), map[string]float64{
			"objects: wal": 100, "objects: segment": 50 + leak*float64(i), "bucket MB: wal": 20, "memory MiB: broker RSS": 300,
			"requests/s: PUT": 24, "load: MB/s acknowledged": 10,
		})
	}
	return &s
}

func TestSoakVerdicts(t *testing.T) {
	for _, c := range []struct {
		name  string
		leak  float64
		acked float64
		want  string // verdicts of the panels
		valid bool
	}{
		{"flat", 0, 10, "met met met met", true},
		{"one prefix grows", 1, 10, "not met met met met", true},
		{"load not applied", 0, 12, "met met met met", false},
	} {
		e := &Env{Soak: 30 * time.Minute, Log: t.Logf}
		e.judgeSoak(soaked(c.leak), []*kgodriver.Steady{{MBPerSecond: c.acked}})
		var verdicts []string
		for _, r := range e.Rows[:4] {
			verdicts = append(verdicts, string(r.Verdict))
			if (r.Invalid == "") != c.valid {
				t.Errorf("%s: %s: invalid %q", c.name, r.What, r.Invalid)
			}
		}
		if got := strings.Join(verdicts, " "); got != c.want {
			t.Errorf("%s: verdicts %q, want %q", c.name, got, c.want)
		}
	}
	e := &Env{Log: t.Logf}
	e.judgeSoak(&report.Series{}, nil)
	if r := e.Rows[0]; r.Invalid == "" || r.Verdict == report.Met {
		t.Errorf("a soak without samples passes: %+v", r)
	}
}

func TestSoakFiles(t *testing.T) {
	e := &Env{Plots: filepath.Join(t.TempDir(), "img")}
	if err := e.writeSoak(soaked(0)); err != nil {
		t.Fatal(err)
	}
	csv, err := os.ReadFile(filepath.Join(e.Plots, "soak.csv"))
	if err != nil || strings.Count(string(csv), "\n") != 361 || !strings.HasPrefix(string(csv), "seconds,bucket MB: wal,load: MB/s acknowledged,") {
		t.Errorf("%.200s, %v", csv, err)
	}
	if info, err := os.Stat(filepath.Join(e.Plots, "soak.png")); err != nil || info.Size() < 10_000 {
		t.Errorf("plot: %v, %v", info, err)
	}
}

func TestRates(t *testing.T) {
	got := rates(map[string]float64{"a": 10}, map[string]float64{"a": 20, "new": 5}, 5*time.Second)
	if got["a"] != 2 || got["new"] != 1 {
		t.Errorf("rates %v", got)
	}
}

// TestNamesAreTheirOwn checks that each scenario can be asked for.
func TestNamesAreTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if seen[s.Name] || s.Help == "" || s.run == nil {
			t.Errorf("scenario %+v", s)
		}
		seen[s.Name] = true
	}
}
