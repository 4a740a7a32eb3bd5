package e2e

import (
	"slices"
	"strings"
)

var recordSteps = slices.Concat(
	calls(`
	kafka-topics --create --topic r-one --partitions 2
	kafka-topics --create --topic r-keys
	kafka-topics --create --topic r-compact --config cleanup.policy=compact
	kafka-get-offsets --topic r-one
`),
	[]step{
		{call: "kafka-console-producer --topic r-keys --reader-property parse.key=true --reader-property key.separator=:", stdin: numbered("key:value", 20)},
		{call: "kafka-console-producer --topic r-keys --reader-property parse.key=true --reader-property parse.headers=true --reader-property null.marker=NULL",
			stdin: "h1:v1,h2:v2\tkey\tvalue\nh1:v1\tkey\tNULL\nNULL\tNULL\tvalue\n"},
		{call: "kafka-console-producer --topic r-keys --reader-property parse.key=true", stdin: "no separator\n"},
		{call: "kafka-console-producer --topic r-snappy --compression-codec snappy", stdin: numbered("snappy", 500)},
		{call: "kafka-console-producer --topic r-gzip --compression-codec gzip", stdin: numbered("gzip", 500)},
		{call: "kafka-console-producer --topic r-keys --compression-codec zstd --batch-size 1 --sync --request-required-acks 1 --timeout 10", stdin: numbered("zstd", 5)},
		{call: "kafka-console-producer --topic r-keys --compression-codec lz4 --command-property enable.idempotence=false --request-required-acks 0", stdin: numbered("lz4", 5)},
		{call: "kafka-console-producer --topic r-keys --compression-codec brotli", stdin: "x\n"},
		{call: "kafka-console-producer --topic r-compact", stdin: "no key\n"},
		{call: "kafka-console-producer --topic r-created", stdin: numbered("created", 3)},
		{call: "kafka-console-producer --topic 'not valid' --command-property max.block.ms=2000", stdin: "x\n"},
		{call: "kafka-console-producer --topic r-keys --command-property max.request.size=3000000", stdin: strings.Repeat("x", 1100000) + "\n"},
	},
	calls(`
	kafka-console-consumer --topic r-keys --from-beginning --max-messages 20 --formatter-property print.key=true --formatter-property key.separator=:
	kafka-console-consumer --topic r-snappy --from-beginning --max-messages 500
	kafka-console-consumer --topic r-gzip --from-beginning --max-messages 500
	kafka-console-consumer --topic r-keys --partition 0 --offset 20 --max-messages 3 --formatter-property print.key=true --formatter-property print.headers=true --formatter-property print.offset=true --formatter-property print.partition=true --formatter-property null.literal=NULL
	kafka-console-consumer --topic r-keys --partition 0 --offset 20 --max-messages 3 --formatter-property print.timestamp=true --formatter-property print.epoch=true --formatter-property print.delivery=true
	kafka-console-consumer --topic r-keys --partition 0 --offset earliest --max-messages 2 --isolation-level read_committed
	kafka-console-consumer --topic r-keys --partition 0 --offset latest --timeout-ms 1000
	kafka-console-consumer --topic r-keys --partition 0 --offset 10000 --timeout-ms 1500
	kafka-console-consumer --topic r-keys --partition 9 --offset 0 --timeout-ms 1500
	kafka-console-consumer --topic r-keys --from-beginning --max-messages 33 --timeout-ms 60000 --group r-console
	kafka-console-consumer --include r-k.* --from-beginning --max-messages 1
	kafka-console-consumer --topic 'not valid' --from-beginning --timeout-ms 1500
	kafka-console-consumer --topic r-created --from-beginning --max-messages 3 --formatter org.apache.kafka.tools.consumer.LoggingMessageFormatter
	kafka-console-consumer --topic r-keys --from-beginning --max-messages 1 --value-deserializer org.apache.kafka.common.serialization.BytesDeserializer
	kafka-get-offsets --topic r-keys
	kafka-get-offsets
	kafka-get-offsets --topic-partitions r-one:0,r-keys:0-2
	kafka-get-offsets --topic-partitions r-one:1-
	kafka-get-offsets --topic r-.* --partitions 0
	kafka-get-offsets --topic r-keys --time -1
	kafka-get-offsets --topic r-keys --time -2
	kafka-get-offsets --topic r-keys --time earliest
	kafka-get-offsets --topic r-keys --time latest
	kafka-get-offsets --topic r-one --time max-timestamp
	kafka-get-offsets --topic r-created --time earliest-local
	kafka-get-offsets --topic r-created --time latest-tiered
	kafka-get-offsets --topic r-created --time earliest-pending-upload
	kafka-get-offsets --topic r-keys --time 0
	kafka-get-offsets --topic r-keys --time 4000000000000
	kafka-get-offsets --topic r-keys --time soon
	kafka-get-offsets --topic absent
	kafka-get-offsets --topic-partitions absent:0
	kafka-get-offsets --exclude-internal-topics
`),
	[]step{
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-keys", "partition": 0, "offset": 7}], "version": 1}`},
		{call: "kafka-get-offsets --topic r-keys --time earliest"},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-keys", "partition": 0, "offset": 3}], "version": 1}`},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-keys", "partition": 0, "offset": 100000}], "version": 1}`},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-compact", "partition": 0, "offset": 1}], "version": 1}`},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-keys", "partition": 0, "offset": -2}], "version": 1}`},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "__consumer_offsets", "partition": 0, "offset": 1}], "version": 1}`},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-keys", "partition": 0, "offset": 1}, {"topic": "r-keys", "partition": 0, "offset": 2}]}`},
		{call: "kafka-delete-records --offset-json-file $file", file: `{"partitions": [{"topic": "r-keys", "partition": 0, "offset": -1}], "version": 1}`},
		{call: "kafka-get-offsets --topic r-keys --time earliest"},
		{call: "kafka-console-consumer --topic r-keys --from-beginning --timeout-ms 1500"},
	},
	calls(`
	kafka-topics --create --topic r-verified --config retention.ms=-1
	kafka-verifiable-producer --topic r-verified --max-messages 100 --acks -1
	kafka-verifiable-producer --topic r-verified --max-messages 5 --acks 1 --value-prefix 7 --repeating-keys 2 --message-create-time 1000000000000
	kafka-verifiable-producer --topic r-verified --max-messages 5 --throughput 1000
	kafka-verifiable-consumer --topic r-verified --group-id r-verified --max-messages 110 --reset-policy earliest
	kafka-consumer-groups --describe --group r-verified
	kafka-topics --create --topic r-perf
	kafka-producer-perf-test --topic r-perf --num-records 1000 --record-size 100 --throughput -1 --reporting-interval 600000
	kafka-producer-perf-test --topic r-perf --num-records 1000 --record-size 100 --throughput -1 --reporting-interval 600000 --command-property acks=1 --command-property compression.type=lz4
	kafka-topics --create --topic r-tx
	kafka-producer-perf-test --topic r-tx --num-records 100 --record-size 100 --throughput -1 --reporting-interval 600000 --transaction-duration-ms 100
	kafka-get-offsets --topic r-perf
	kafka-consumer-perf-test --topic r-perf --num-records 2000
	kafka-consumer-perf-test --topic r-perf --num-records 2000 --show-detailed-stats --reporting-interval 600000
	kafka-consumer-perf-test --topic r-perf --num-records 1000 --from-latest --timeout 1000
	kafka-e2e-latency --topic r-perf --num-records 5 --producer-acks all --record-size 20
	kafka-topics --delete --topic r-.*
`))
