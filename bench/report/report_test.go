package report

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	err := WriteTable(&b, []Row{
		{Scenario: "a", What: "first | x", Measured: "1 ms", Target: "≤ 2 ms", Verdict: Judge(true)},
		{Scenario: "a", What: "second", Measured: "3 ms", Verdict: Judge(false), Invalid: "the driver was late"},
		{Scenario: "b", What: "third", Measured: "4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `| Scenario | What | Measured | Target | |
|---|---|---|---|---|
| a | first \| x | 1 ms | ≤ 2 ms | met |
|  | second | 3 ms |  | not met; run not valid: the driver was late |
| b | third | 4 |  |  |
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlot(t *testing.T) {
	rows := []Row{
		{Curve: "one", Point: Point{2, 50, 180, 51, 190}}, {What: "no point"}, {Curve: "two", Point: Point{2, 1, 3, 2, 4}},
		{Curve: "one", Point: Point{30, 90, 260, 95, 270}},
	}
	curves := Curves(rows)
	if len(curves) != 2 || curves[0].Name != "one" || len(curves[0].Points) != 2 || len(curves[1].Points) != 1 {
		t.Fatalf("curves %+v", curves)
	}
	dir := t.TempDir()
	if err := Plot(dir, curves); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ack.png", "end-to-end.png"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if c, err := png.DecodeConfig(f); err != nil || c.Width < 400 {
			t.Errorf("%s: width %d, error %v", name, c.Width, err)
		}
	}
}
