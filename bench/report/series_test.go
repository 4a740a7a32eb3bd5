package report

import (
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSeriesCSV(t *testing.T) {
	var s Series
	s.Add(0, map[string]float64{"rss": 10})
	s.Add(5.04, map[string]float64{"rss": 12.5, "objects": 3})
	s.Add(10, map[string]float64{"objects": 4})
	var b strings.Builder
	if err := s.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	if want := "seconds,objects,rss\n0.0,0,10\n5.0,3,12.5\n10.0,4,0\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTrend(t *testing.T) {
	ramp := func(from, to float64) (v []float64) {
		for i := range 30 {
			v = append(v, from+(to-from)*float64(i)/29)
		}
		return v
	}
	warm := append(ramp(0, 100), append(ramp(100, 100), ramp(100, 100)...)...) // grows, then is flat
	for _, c := range []struct {
		name  string
		v     []float64
		noise float64
		want  bool
	}{
		{"warm-up, then flat", warm, 0, true},
		{"grows for ever", ramp(0, 1000), 0, false},
		{"grows slowly", ramp(100, 120), 0, true},
		{"shrinks", ramp(100, 0), 0, true},
		{"nothing at all", make([]float64, 30), 0, true},
		{"begins late", append(make([]float64, 20), ramp(5, 5)...), 0, false},
		{"begins late, small", append(make([]float64, 20), ramp(5, 5)...), 6, true},
		{"too few to tell", []float64{1, 9}, 0, true},
	} {
		if trend := TrendOf(c.v); trend.Flat(.1, c.noise) != c.want {
			t.Errorf("%s: %+v, growth %v: flat is not %v", c.name, trend, trend.Growth(), c.want)
		}
	}
	if got := (Trend{100, 110}).Growth(); math.Abs(got-.1) > 1e-9 {
		t.Errorf("growth %v", got)
	}
	if got := (Trend{0, 1}).Growth(); !math.IsInf(got, 1) {
		t.Errorf("growth from nothing %v", got)
	}
}

func TestPanels(t *testing.T) {
	at := []float64{0, 1, 2}
	path := filepath.Join(t.TempDir(), "img", "soak.png")
	err := Panels(path, "A soak", []Panel{
		{Label: "objects", Lines: []Line{{"wal", at, []float64{1, 2, 3}}, {"segment", at, []float64{0, 1, 0}}}},
		{Label: "MiB", Lines: []Line{{"RSS", at, []float64{100, 120, 110}}}},
		{Label: "requests/s", Lines: []Line{{"none", at, []float64{0, 0, 0}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c, err := png.DecodeConfig(f); err != nil || c.Width < 400 || c.Height < c.Width*9/10 {
		t.Errorf("%d by %d, error %v", c.Width, c.Height, err)
	}
}
