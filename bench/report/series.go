package report

import (
	"encoding/csv"
	"io"
	"math"
	"slices"
	"strconv"
)

// A Series is what was sampled again and again, at seconds after the start.
type Series struct {
	names   []string
	seconds []float64
	values  map[string][]float64
}

// Add takes a sample. What a sample does not have is 0 in it: nothing of the kind was there.
func (s *Series) Add(seconds float64, sample map[string]float64) {
	if s.values == nil {
		s.values = map[string][]float64{}
	}
	for name := range sample {
		if _, known := s.values[name]; !known {
			s.names = append(s.names, name)
			s.values[name] = make([]float64, len(s.seconds))
		}
	}
	slices.Sort(s.names)
	s.seconds = append(s.seconds, seconds)
	for _, name := range s.names {
		s.values[name] = append(s.values[name], sample[name])
	}
}

// Names are those of what was sampled, sorted.
func (s *Series) Names() []string { return s.names }

// Seconds are when samples were taken.
func (s *Series) Seconds() []float64 { return s.seconds }

// Values are those of one name, a value for each sample.
func (s *Series) Values(name string) []float64 { return s.values[name] }

// WriteCSV writes a line for each sample.
func (s *Series) WriteCSV(to io.Writer) error {
	w := csv.NewWriter(to)
	_ = w.Write(append([]string{"seconds"}, s.names...)) // Error tells at the end
	for i, at := range s.seconds {
		line := []string{strconv.FormatFloat(at, 'f', 1, 64)}
		for _, name := range s.names {
			line = append(line, strconv.FormatFloat(s.values[name][i], 'f', -1, 64))
		}
		_ = w.Write(line) // Error tells at the end
	}
	w.Flush()
	return w.Error()
}

// A Trend compares the last third of a series with the third before it: the first is the warm-up.
type Trend struct{ Second, Last float64 } // means

// TrendOf needs three values at least, to say anything but 0.
func TrendOf(v []float64) Trend {
	third := len(v) / 3
	if third == 0 {
		return Trend{}
	}
	return Trend{mean(v[third : 2*third]), mean(v[2*third:])}
}

// Growth is by which part of the second third the last is more; less than 0 where it is less.
func (t Trend) Growth() float64 {
	if t.Last == t.Second {
		return 0
	}
	if t.Second == 0 {
		return math.Inf(1)
	}
	return t.Last/t.Second - 1
}

// Flat is whether it grew by a part of most at most, or by no more than noise, which tells nothing of small things.
func (t Trend) Flat(most, noise float64) bool { return t.Growth() <= most || t.Last-t.Second <= noise }

func mean(v []float64) float64 {
	sum := 0.
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
