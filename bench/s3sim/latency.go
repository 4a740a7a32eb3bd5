package s3sim

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// A curve is how long one kind of request takes: a lognormal whose median grows with the size.
type curve struct {
	base, perMB float64 // ms
	sigma       float64
}

// A Profile is a model of a storage service's latency.
type Profile struct {
	Name     string
	put, get curve
	// outlier is the extra time of one request in 1000, uniform between the two.
	outlierMin, outlierMax time.Duration
	// mbPerSecond bounds one request's bandwidth.
	mbPerSecond float64
}

// Profiles: fast adds nothing; std and express are S3 Standard and S3 Express One Zone as published measurements have them
// (medians, and p99 of about 3 to 4 times the median on Standard). slow is Standard with the heavier tail that some report.
var profiles = []Profile{
	{Name: "fast"},
	{
		Name: "std", put: curve{40, 10, .55}, get: curve{20, 11, .5},
		outlierMin: 500 * time.Millisecond, outlierMax: 2 * time.Second, mbPerSecond: 100,
	},
	{
		Name: "slow", put: curve{40, 10, .65}, get: curve{20, 11, .65},
		outlierMin: 500 * time.Millisecond, outlierMax: 2 * time.Second, mbPerSecond: 100,
	},
	{
		Name: "express", put: curve{6, 4, .35}, get: curve{4, 3.3, .35},
		outlierMin: 50 * time.Millisecond, outlierMax: 300 * time.Millisecond, mbPerSecond: 300,
	},
}

// ProfileByName returns fast, std, slow or express.
func ProfileByName(name string) (Profile, error) {
	for _, p := range profiles {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("no latency profile %q: use fast, std, slow or express", name)
}

// Op is a kind of request.
type Op string

// The operations that are counted.
const (
	OpPut    Op = "PUT"
	OpGet    Op = "GET"
	OpHead   Op = "HEAD"
	OpDelete Op = "DELETE"
	OpList   Op = "LIST"
)

// A latency draws delays. The nth request of an operation gets the same luck in every run with the same seed, in whatever
// order operations mix; only sizes may differ.
type latency struct {
	profile  Profile
	seed     uint64
	put, get atomic.Uint64 // requests so far
}

// delay returns how long the next request of op with size bytes takes.
func (l *latency) delay(op Op, size int) time.Duration {
	c, count := l.profile.get, &l.get
	if op == OpPut || op == OpDelete {
		c, count = l.profile.put, &l.put
	}
	if c.base == 0 {
		return 0
	}
	n := count.Add(1)
	mb := float64(size) / 1e6
	// Each request has random numbers of its own, whatever runs beside it.
	key := l.seed*0x9e3779b97f4a7c15 + n<<3
	if op == OpPut || op == OpDelete {
		key ^= 1 << 63
	}
	u1, u2, luck, extra := uniform(key), uniform(key+1), uniform(key+2), uniform(key+3)
	normal := math.Sqrt(-2*math.Log(1-u1)) * math.Cos(2*math.Pi*u2)
	ms := (c.base + c.perMB*mb) * math.Exp(c.sigma*normal)
	if l.profile.mbPerSecond > 0 {
		ms = max(ms, mb/l.profile.mbPerSecond*1000)
	}
	d := time.Duration(ms * float64(time.Millisecond))
	if luck < .001 {
		d += l.profile.outlierMin + time.Duration(extra*float64(l.profile.outlierMax-l.profile.outlierMin))
	}
	return d
}

// uniform hashes key to [0, 1): splitmix64.
func uniform(key uint64) float64 {
	z := key + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}
