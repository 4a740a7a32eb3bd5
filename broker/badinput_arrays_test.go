package broker

import (
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// arraysOf returns the path, by field numbers, of each array within a request.
func arraysOf(t reflect.Type, path []int) [][]int {
	var out [][]int
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int(nil), path...), i)
		if f.Type.Kind() != reflect.Slice || f.Type.Elem().Kind() == reflect.Uint8 {
			continue
		}
		out = append(out, at)
		if f.Type.Elem().Kind() == reflect.Struct {
			out = append(out, arraysOf(f.Type.Elem(), at)...)
		}
	}
	return out
}

// pathName is an array's path in words.
func pathName(t reflect.Type, path []int) string {
	var names []string
	for _, i := range path {
		f := t.Field(i)
		names = append(names, f.Name)
		if t = f.Type.Elem(); t.Kind() != reflect.Struct {
			break
		}
	}
	return strings.Join(names, ".")
}

// growArray makes the array at path n long, in the first element of each array on the way. A name of "" makes its elements
// empty; else element i has name(i) for all its strings, and its numbers are i if the names differ.
func growArray(v reflect.Value, path []int, n int, name func(i int) string) {
	array := v.Field(path[0])
	if len(path) > 1 {
		if array.Len() == 0 {
			array.Set(reflect.MakeSlice(array.Type(), 1, 1))
			nameElement(array.Index(0), 0, keptTopic, false)
		}
		growArray(array.Index(0), path[1:], n, name)
		return
	}
	array.Set(reflect.MakeSlice(array.Type(), n, n))
	distinct := name(0) != name(1)
	for i := range n {
		nameElement(array.Index(i), i, name(i), distinct)
	}
}

func nameElement(v reflect.Value, i int, name string, number bool) {
	if method := v.Addr().MethodByName("Default"); method.IsValid() {
		method.Call(nil)
	}
	if name == "" {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for f := range v.NumField() {
			if v.Type().Field(f).Name != "UnknownTags" && v.Field(f).Kind() != reflect.Slice {
				nameElement(v.Field(f), i, name, number)
			}
		}
	case reflect.String:
		v.SetString(name)
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.ValueOf(&name))
		}
	case reflect.Array:
		if number {
			var id protocol.TopicID
			binary.BigEndian.PutUint64(id[:], uint64(i+1))
			v.Set(reflect.ValueOf(id).Convert(v.Type()))
		}
	case reflect.Int32:
		if number {
			v.SetInt(int64(i))
		}
	}
}

// newestWith returns the newest version of a request that has a part which was made n long.
func newestWith(req kmsg.Request, n int) (int16, bool) {
	api, _ := protocol.LookupAPI(req.Key())
	for v := api.Max; v >= api.Min; v-- {
		req.SetVersion(v)
		if len(req.AppendTo(nil)) >= n {
			return v, true
		}
	}
	return 0, false
}

var joins atomic.Int64

// sensible fills in what lets a request get as far as its arrays.
func sensible(req kmsg.Request) {
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		req.Acks, req.TimeoutMillis = -1, 10_000
	case *kmsg.FetchRequest:
		req.ReplicaID, req.MaxBytes, req.SessionEpoch = -1, 1<<20, finalEpoch
	case *kmsg.JoinGroupRequest:
		// A group of its own for each, so that nobody has to be waited for.
		req.Version, req.Group, req.ProtocolType = 3, fmt.Sprint("many-", joins.Add(1)), "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 6000, 6000
	case *kmsg.OffsetCommitRequest:
		req.Group, req.Generation = "many", -1
	case *kmsg.OffsetFetchRequest:
		req.Group = "many"
	case *kmsg.LeaveGroupRequest:
		req.Group = "many"
	case *kmsg.SyncGroupRequest:
		req.Group = "many"
	case *kmsg.OffsetDeleteRequest:
		req.Group = "many"
	case *kmsg.DescribeConfigsRequest:
		for i := range req.Resources {
			req.Resources[i].ResourceType = kmsg.ConfigResourceTypeTopic
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for i := range req.Resources {
			req.Resources[i].ResourceType = kmsg.ConfigResourceTypeTopic
		}
	case *kmsg.CreateTopicsRequest:
		for i := range req.Topics {
			req.Topics[i].NumPartitions, req.Topics[i].ReplicationFactor = 10, 1
			if len(req.Topics[i].ReplicaAssignment) > 0 {
				req.Topics[i].NumPartitions, req.Topics[i].ReplicationFactor = -1, -1
			}
		}
		req.ValidateOnly = true
	case *kmsg.CreatePartitionsRequest:
		for i := range req.Topics {
			req.Topics[i].Count = int32(2 + len(req.Topics[i].Assignment))
		}
		req.ValidateOnly = true
	}
}

// A manyCase is one array of one request, filled in one way.
type manyCase struct {
	name  string
	frame func(n int) []byte
}

func manyCases(t *testing.T) []manyCase {
	fills := []struct {
		name string
		of   func(i int) string
	}{
		{"empty", func(int) string { return "" }},
		{"equal", func(int) string { return keptTopic }},
		{"distinct", func(i int) string { return fmt.Sprintf("n%07d", i) }},
	}
	var out []manyCase
	for _, a := range protocol.APIs() {
		typ := reflect.TypeOf(kmsg.RequestForKey(int16(a.Key))).Elem()
		for _, path := range arraysOf(typ, nil) {
			for _, fill := range fills {
				build := func(n int) kmsg.Request {
					req := kmsg.RequestForKey(int16(a.Key))
					growArray(reflect.ValueOf(req).Elem(), path, n, fill.of)
					return req
				}
				version, ok := newestWith(build(1000), 1000)
				if !ok {
					continue // an array of versions that are not served
				}
				out = append(out, manyCase{
					name: fmt.Sprintf("%s.%s/%s", a.Name, pathName(typ, path), fill.name),
					frame: func(n int) []byte {
						req := build(n)
						req.SetVersion(version)
						sensible(req)
						return frameOf(req, 1)
					},
				})
			}
		}
	}
	if len(out) < 100 {
		t.Fatalf("only %d arrays were found in the requests", len(out))
	}
	return out
}

// cost is what a request took of the process: of its time, of the heap, and of the connection.
type cost struct {
	cpu    time.Duration
	heap   uint64
	answer int
}

// costOf sends a frame on a connection of its own and takes the answer, or the connection's end.
func (a *attack) costOf(t *testing.T, frame []byte) cost {
	c := dial(t, a.kafka).warm()
	defer c.Conn.Close()
	heap, cpu := allocatedSoFar(), processTime()
	go func() { _, _ = c.Conn.Write(frame) }()
	_, body, _ := c.receive()
	return cost{cpu: processTime() - cpu, heap: allocatedSoFar() - heap, answer: len(body)}
}

func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cheap reports whether that is less than what comparing all elements with one another takes.
func (c cost) cheap() bool {
	return c.cpu < 100*time.Millisecond && c.heap < 16<<20 && c.answer < 1<<20
}

// quadratic compares the costs of a request and of one four times as long: linear ways take four times as much, quadratic
// ones sixteen times. It says which cost is above eight times.
func quadratic(one, four cost) string {
	switch {
	case four.cpu > 8*one.cpu+50*time.Millisecond:
		return fmt.Sprintf("four times the bytes take %v after %v", four.cpu, one.cpu)
	case four.heap > 8*one.heap+(8<<20):
		return fmt.Sprintf("four times the bytes take %d KiB of heap after %d", four.heap>>10, one.heap>>10)
	case four.answer > 8*one.answer+(64<<10):
		return fmt.Sprintf("four times the bytes are answered with %d after %d", four.answer, one.answer)
	}
	return ""
}

// TestBadInputArrays fills each array of each request with elements that are empty, equal or distinct: the answer takes
// time, memory and bytes linear in the request's. TIDEMILL_ELEMENTS=1000000 makes it a million each.
func TestBadInputArrays(t *testing.T) {
	n := 9000
	if env, err := strconv.Atoi(os.Getenv("TIDEMILL_ELEMENTS")); err == nil {
		n = env
	}
	a := besiege(t, "--kafka", "auto.create.topics.enable=false")
	a.relieve() // its work would be counted
	for _, tc := range manyCases(t) {
		t.Run(tc.name, func(t *testing.T) {
			small, large := tc.frame(n/4), tc.frame(n)
			what := ""
			for range 4 { // others on the machine and the collector disturb
				four := a.costOf(t, large)
				if four.cheap() {
					return // not worth the comparison
				}
				one := a.costOf(t, small)
				t.Logf("%d bytes: %+v, %d bytes: %+v", len(small), one, len(large), four)
				if what = quadratic(one, four); what == "" {
					return
				}
			}
			t.Error(what)
		})
	}
	a.checkUnharmed(t)
	checkNoPanic(t, a.testBroker)
}
