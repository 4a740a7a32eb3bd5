package observe

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Metrics are series in the text format of Prometheus, by name with labels.
type Metrics map[string]float64

// Scrape reads the metrics at url.
func Scrape(url string) (Metrics, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return parse(resp.Body)
}

func parse(r io.Reader) (Metrics, error) {
	m := Metrics{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := in.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if at < 0 || err != nil {
			return nil, fmt.Errorf("metrics: no value in %q", line)
		}
		m[line[:at]] = v
	}
	return m, in.Err()
}

// Sum adds the series of a name that have all the labels, each as it is written: op="get". It is false if there is none.
func (m Metrics) Sum(name string, labels ...string) (sum float64, ok bool) {
series:
	for series, v := range m {
		of, has, _ := strings.Cut(series, "{")
		if of != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(has, label) {
				continue series
			}
		}
		sum, ok = sum+v, true
	}
	return sum, ok
}

// Need is Sum of a series that must be there.
func (m Metrics) Need(name string, labels ...string) (float64, error) {
	sum, ok := m.Sum(name, labels...)
	if !ok {
		return 0, fmt.Errorf("no metric %s{%s}", name, strings.Join(labels, ","))
	}
	return sum, nil
}
