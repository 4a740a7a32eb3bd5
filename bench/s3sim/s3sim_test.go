package s3sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/tidemill/tidemill/objectstore"
	"github.com/tidemill/tidemill/objectstore/s3store"
	"github.com/tidemill/tidemill/objectstore/storetest"
)

func start(t *testing.T, o Options) (*s3store.Store, string) {
	t.Helper()
	server := httptest.NewServer(New(o))
	t.Cleanup(server.Close)
	s, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: "any", Prefix: "pre fix", Endpoint: server.URL, Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, server.URL
}

// TestContract proves the simulator by the contract that drivers of real services pass.
func TestContract(t *testing.T) {
	s, _ := start(t, Options{})
	if got := s.Checksums(); got != s3store.Header {
		t.Errorf("checksums: got %q, want %q", got, s3store.Header)
	}
	storetest.Run(t, func(*testing.T) objectstore.Store { return s })
	if err := objectstore.Probe(t.Context(), s); err != nil {
		t.Errorf("probe: %v", err)
	}
}

func TestStats(t *testing.T) {
	s, url := start(t, Options{})
	before := stats(t, url)
	if err := s.Put(t.Context(), "wal/1", []byte("four")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "wal/1"); err != nil {
		t.Fatal(err)
	}
	got := stats(t, url).Since(before)
	if want := (Counts{1, 4}); got.Ops[OpPut] != want || got.Ops[OpGet] != want || got.ByKey["pre fix"][OpPut] != want {
		t.Errorf("counted %+v, want one put and one get of 4 bytes", got)
	}
}

// TestHoldings checks what is told of the bucket when objects come, change and go.
func TestHoldings(t *testing.T) {
	o := newObjects(0)
	put := func(key string, size int) { o.put(key, make([]byte, size), "", condition{}) }
	put("wal/1", 10)
	put("wal/2", 20)
	put("wal/2", 5)
	put("manifest/1", 7)
	o.put("wal/1", nil, "", condition{absent: true})
	want := map[string]Holding{"wal": {2, 15}, "manifest": {1, 7}}
	if got := o.holdings(); !maps.Equal(got, want) {
		t.Errorf("holds %v, want %v", got, want)
	}
	for _, key := range []string{"wal/1", "wal/1", "manifest/1"} {
		o.delete(key)
	}
	if got := o.holdings(); !maps.Equal(got, map[string]Holding{"wal": {1, 5}}) {
		t.Errorf("holds %v after deletes", got)
	}
}

func stats(t *testing.T, url string) Stats {
	t.Helper()
	resp, err := http.Get(url + "/_stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s Stats
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKeepBytes checks that memory is bounded and that the oldest bodies are read from the overflow.
func TestKeepBytes(t *testing.T) {
	o := newObjects(3 * bigBody)
	for i := range 7 {
		if !o.put(string(rune('a'+i)), bytes.Repeat([]byte{byte(i)}, bigBody), "", condition{absent: true}) {
			t.Fatal("not stored")
		}
		if i == 4 {
			o.delete("d") // leaves room for one more
		}
	}
	for i := range 7 {
		got, ok := o.get(string(rune('a' + i)))
		if ok == (i == 3) || ok && ((got.body == nil) != (i < 3) || got.size != bigBody) {
			t.Errorf("object %d: there %v, in memory %v, size %d", i, ok, got.body != nil, got.size)
		}
		if !ok {
			continue
		}
		if p, err := o.read(got, 100, 200); err != nil || !bytes.Equal(p, bytes.Repeat([]byte{byte(i)}, 100)) {
			t.Errorf("object %d: %x, %v", i, p, err)
		}
	}
	if o.kept != 3*bigBody {
		t.Errorf("%d bytes are in memory, want %d", o.kept, 3*bigBody)
	}
}

// TestLatencyIsSeeded checks that the nth request of an operation has the same delay whatever came between.
func TestLatencyIsSeeded(t *testing.T) {
	std, err := ProfileByName("std")
	if err != nil {
		t.Fatal(err)
	}
	draw := func(seed uint64, mixed bool) (all []time.Duration) {
		l := latency{profile: std, seed: seed}
		for range 1000 {
			if mixed {
				l.delay(OpGet, 100)
			}
			all = append(all, l.delay(OpPut, 1<<20))
		}
		return all
	}
	a, b, c := draw(1, false), draw(1, true), draw(2, false)
	same := 0
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("put %d: %v alone, %v among gets", i, a[i], b[i])
		}
		if a[i] == c[i] {
			same++
		}
	}
	if same > 1 {
		t.Errorf("%d of %d delays do not depend on the seed", same, len(a))
	}
}

// TestLatencyModel checks the quantiles that the model is known by: 4 MB to S3 Standard takes 80 ms, 297 ms at p99.
func TestLatencyModel(t *testing.T) {
	for _, c := range []struct {
		profile  string
		op       Op
		mb       int
		p50, p99 float64 // ms
	}{
		{"std", OpPut, 4, 80, 290}, {"std", OpPut, 1, 50, 181}, {"std", OpGet, 4, 64, 207}, {"express", OpPut, 1, 10, 22.7}, {"fast", OpPut, 8, 0, 0},
	} {
		profile, err := ProfileByName(c.profile)
		if err != nil {
			t.Fatal(err)
		}
		l := latency{profile: profile, seed: 7}
		const n = 40_000
		ms := make([]float64, n)
		for i := range ms {
			ms[i] = float64(l.delay(c.op, c.mb*1e6)) / 1e6
		}
		sort.Float64s(ms)
		for q, want := range map[float64]float64{.5: c.p50, .99: c.p99} {
			if got := ms[int(q*n)]; got < want*.93 || got > want*1.1 {
				t.Errorf("%s %s of %d MB: p%v is %.1f ms, want about %.1f", c.profile, c.op, c.mb, q*100, got, want)
			}
		}
	}
}

func TestUnchunk(t *testing.T) {
	header := http.Header{}
	in := "5;chunk-signature=abc\r\nhello\r\n6\r\n world\r\n0;chunk-signature=d\r\nx-amz-checksum-crc32c:yZRlqg==\r\n\r\n"
	got, err := unchunk(bufio.NewReader(strings.NewReader(in)), header)
	if err != nil || string(got) != "hello world" {
		t.Errorf("got %q, error %v", got, err)
	}
	if !checksumFits(got, header) {
		t.Error("the checksum in the trailer does not fit")
	}
	if _, err := unchunk(bufio.NewReader(strings.NewReader("5\r\nhello world\r\n0\r\n\r\n")), header); err == nil {
		t.Error("a chunk longer than it says was taken")
	}
}
