// Package observe reads from /proc what a process has used. It needs Linux.
package observe

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on all of Linux that Go runs on.
const tick = 10 * time.Millisecond

// A Usage is what a process has used until now.
type Usage struct {
	User, System time.Duration
	RSS, PeakRSS int64 // bytes
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// Process reads the usage of a process with all its threads.
func Process(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Usage{}, err
	}
	// The second field is the command in parentheses, which may hold spaces; utime and stime are fields 14 and 15.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return Usage{}, fmt.Errorf("%s/stat: times %q and %q", dir, fields[11], fields[12])
	}
	u := Usage{User: time.Duration(user) * tick, System: time.Duration(system) * tick}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return Usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		to := map[string]*int64{"VmRSS": &u.RSS, "VmHWM": &u.PeakRSS}[name]
		if to == nil {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("%s/status: %s", dir, line)
		}
		*to = kib << 10
	}
	return u, nil
}
