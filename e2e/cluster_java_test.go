package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

const javaTopic = "java"

// A javaSend is what kafka-verifiable-producer prints of a record.
type javaSend struct {
	Name, Value, Exception string
	Partition              int32
	Offset                 int64
	Timestamp              int64 // when it was acknowledged, milliseconds since 1970
}

// longestJavaGap is the longest time since from in which one partition had nothing acknowledged, up to its last acknowledgement.
func longestJavaGap(sends []javaSend, from time.Time) (gap time.Duration, partition int32) {
	last := map[int32]int64{}
	for _, s := range sends {
		if s.Name != "producer_send_success" || s.Timestamp < from.UnixMilli() {
			continue
		}
		before, ok := last[s.Partition]
		if !ok {
			before = from.UnixMilli()
		}
		if d := time.Duration(s.Timestamp-before) * time.Millisecond; d > gap {
			gap, partition = d, s.Partition
		}
		last[s.Partition] = s.Timestamp
	}
	return gap, partition
}

// TestClusterJavaProducer kills one broker of three and stops another under Kafka's own idempotent producer. What it was told is
// stored is there, once.
func TestClusterJavaProducer(t *testing.T) {
	c := harness.NewCluster(t, harness.ClusterOptions{})
	client := c.Client()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 12, -1, nil, javaTopic); err != nil {
		t.Fatal(err)
	}
	settings := harness.WriteFile(t, "producer.properties", "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=300000\n"+
		"partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner\n")
	producer := harness.Start(t, "verifiable-producer", harness.Java(t, 128, "org.apache.kafka.tools.VerifiableProducer",
		"--bootstrap-server", strings.Join(c.Bootstrap(), ","), "--topic", javaTopic, "--throughput", "500", "--acks", "-1",
		"--command-config", settings)...)
	flows := func(when string) {
		t.Helper()
		before := len(javaSends(t, producer.Output()))
		harness.Eventually(t, time.Minute, "Kafka's producer goes on "+when, func() error {
			if now := len(javaSends(t, producer.Output())); now < before+1000 {
				return errorf("%d records, %d before", now, before)
			}
			return nil
		})
	}
	flows("at the beginning")
	killed, stopped := others(c)[0], others(c)[1]
	killed.Kill9()
	c.AwaitSpread()
	flows("after a kill")
	killed.Start()
	c.AwaitBrokers(3)
	c.AwaitSpread()
	flows("on three brokers")
	at := time.Now()
	stopped.Terminate()
	flows("after a stop")
	gap, partition := longestJavaGap(javaSends(t, producer.Output()), at)
	t.Logf("figure: SIGTERM of a broker under Kafka's idempotent producer: longest gap in one partition %v, in %d", gap, partition)
	producer.Signal(syscall.SIGTERM, workerLimit)
	checkJavaSends(t, client, javaSends(t, producer.Output()))
}

// javaSends reads the whole lines of the tool's output, but for its summary and what else Java prints.
func javaSends(t *testing.T, output string) []javaSend {
	t.Helper()
	var all []javaSend
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "\n") || !strings.Contains(line, `"producer_send_`) {
			continue
		}
		var s javaSend
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, s)
	}
	return all
}

func checkJavaSends(t *testing.T, client *kgo.Client, sends []javaSend) {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), javaTopic)
	if err != nil || ends.Error() != nil {
		t.Fatal(err, ends.Error())
	}
	left, places, values := int64(0), map[[2]int64]string{}, map[string]int{}
	start := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset; start[o.Partition] = kgo.NewOffset().At(0) })
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{javaTopic: start})
	for left > 0 {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			places[[2]int64{int64(r.Partition), r.Offset}] = string(r.Value)
			values[string(r.Value)]++
		})
	}
	report, acked := limited(t), 0
	for _, s := range sends {
		if s.Name != "producer_send_success" {
			report("value %s was not sent: %s", s.Value, s.Exception)
			continue
		}
		acked++
		if got := places[[2]int64{int64(s.Partition), s.Offset}]; got != s.Value {
			report("value %s was acknowledged at %d-%d, where %q is", s.Value, s.Partition, s.Offset, got)
		}
	}
	for value, n := range values {
		if n > 1 {
			report("value %s is there %d times", value, n)
		}
	}
	t.Logf("figure: Kafka's idempotent producer through a kill and a stop: %d records acknowledged, %d stored", acked, len(places))
}
