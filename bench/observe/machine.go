package observe

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Ticks is what all cores together have done until now, in ticks.
type Ticks struct{ Idle, All int64 }

// Machine reads what the cores have done.
func Machine() (Ticks, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Ticks{}, err
	}
	return ticks(string(raw))
}

// ticks reads the first line: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user and nice.
func ticks(stat string) (t Ticks, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return t, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, f := range fields[1:9] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/stat: %q", line)
		}
		t.All += n
		if i == 3 || i == 4 {
			t.Idle += n
		}
	}
	return t, nil
}

// IdleSince is which part of the time since before the cores had nothing to do.
func (t Ticks) IdleSince(before Ticks) float64 {
	if t.All == before.All {
		return 0
	}
	return float64(t.Idle-before.Idle) / float64(t.All-before.All)
}
