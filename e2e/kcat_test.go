package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

// kcatLimit is for one call of kcat, which talks to one broker on the same machine.
const kcatLimit = time.Minute

// TestKcat produces and consumes through librdkafka with every codec. It also looks at what is stored: a broker whose
// ApiVersions answer is wrong makes librdkafka send uncompressed without a word (1.1, Produce's minimum version).
func TestKcat(t *testing.T) {
	broker := harness.NewBroker(t, nil)
	codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	for number, codec := range codecs {
		for _, option := range [][]string{{"-z", codec}, {"-X", "compression.codec=" + codec}} {
			t.Run(codec+" "+option[0], func(t *testing.T) {
				topic := "kcat-" + codec + option[0]
				lines := numbered("kcat line", 1000)
				args := append([]string{"kcat", "-b", broker.Addr, "-P", "-t", topic, "-X", "linger.ms=200"}, option...)
				harness.Run(t, kcatLimit, lines, args...)
				got := harness.Run(t, kcatLimit, "", "kcat", "-b", broker.Addr, "-C", "-t", topic, "-o", "beginning", "-e", "-q")
				if diff := cmp.Diff(lines, got); diff != "" {
					t.Errorf("lines came back different (-sent +received):\n%s", clip(diff))
				}
				stored := storedCodecs(t, broker, topic)
				if !stored[uint8(number)] {
					t.Errorf("batches are stored with codecs %v, none with %d", stored, number)
				}
			})
		}
	}
	t.Run("metadata", func(t *testing.T) {
		got := harness.Run(t, kcatLimit, "", "kcat", "-b", broker.Addr, "-L", "-t", "kcat-gzip-z")
		if !strings.Contains(got, `topic "kcat-gzip-z" with 1 partitions`) || !strings.Contains(got, broker.Addr) {
			t.Errorf("metadata: %s", got)
		}
	})
}

// storedCodecs are the codecs of the first batches of partition 0. One may be 0 in any case: librdkafka leaves a batch
// alone that compression would make larger.
func storedCodecs(t *testing.T, broker *harness.Broker, topic string) map[uint8]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), kcatLimit)
	defer cancel()
	client := broker.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	codecs := map[uint8]bool{}
	fetches.EachRecord(func(r *kgo.Record) { codecs[r.Attrs.CompressionType()] = true })
	return codecs
}

// numbered returns n lines "<text> <i>".
func numbered(text string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d\n", text, i)
	}
	return b.String()
}

// clip keeps a diff readable when everything differs.
func clip(s string) string {
	const most = 4 << 10
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
