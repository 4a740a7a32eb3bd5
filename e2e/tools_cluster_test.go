package e2e

import "slices"

const compatible = "ClientCompatibilityTest --topic k-compatible --offsets-for-times-supported True --cluster-id-supported True " +
	"--expect-record-too-large-exception False --num-cluster-nodes 1 --create-topics-supported True --describe-configs-supported True "

var clusterSteps = slices.Concat(
	calls(`
	kafka-topics --create --topic k-one --partitions 2 --config retention.ms=-1
	kafka-topics --create --topic k-compatible
`),
	[]step{{do: fill("k-one", 2, 3)}},
	calls(`
	kafka-broker-api-versions
	kafka-cluster cluster-id $broker
	kafka-cluster list-endpoints $broker
	kafka-cluster list-endpoints $broker --include-fenced-brokers
	kafka-cluster unregister $broker --id 9
	kafka-log-dirs --describe --topic-list k-one
	kafka-log-dirs --describe --topic-list k-one,k-absent --broker-list 1
	kafka-log-dirs --describe --broker-list 9
	kafka-metadata-quorum $broker describe --status
	kafka-metadata-quorum $broker describe --replication
	kafka-features $broker describe
	kafka-features $broker upgrade --feature group.version=1 --dry-run
	kafka-features version-mapping
	kafka-leader-election --election-type preferred --all-topic-partitions
	kafka-leader-election --election-type preferred --topic k-one --partition 0
	kafka-leader-election --election-type unclean --topic k-one --partition 0
	kafka-leader-election --election-type preferred --topic k-absent --partition 0
	kafka-reassign-partitions --list
	kafka-transactions list
	kafka-transactions describe --transactional-id k-tx
	kafka-transactions describe-producers --topic k-one --partition 0
	kafka-transactions find-hanging --broker-id 1
	kafka-acls --list
	kafka-acls --add --allow-principal User:alice --operation Read --topic k-one
	kafka-acls --remove --allow-principal User:alice --operation Read --topic k-one --force
	kafka-client-metrics --list
	kafka-client-metrics --describe
	kafka-client-metrics --alter --name k-metrics --interval 60000
	kafka-client-metrics --delete --name k-metrics
`),
	[]step{
		{call: "kafka-topics --list --exclude-internal --command-config $file", file: "client.id=tools\n"},
		{call: "kafka-delegation-tokens --describe --command-config $file", file: "client.id=tools\n"},
		{call: "kafka-delegation-tokens --create --max-life-time-period -1 --command-config $file", file: "client.id=tools\n"},
		{call: "kafka-reassign-partitions --verify --reassignment-json-file $file", file: reassignment("1")},
		{call: "kafka-reassign-partitions --execute --reassignment-json-file $file", file: reassignment("1")},
		{call: "kafka-reassign-partitions --execute --reassignment-json-file $file", file: reassignment("9")},
		{call: "kafka-reassign-partitions --cancel --reassignment-json-file $file", file: reassignment("1")},
		{call: "kafka-reassign-partitions --generate --broker-list 1 --topics-to-move-json-file $file", file: `{"topics": [{"topic": "k-one"}], "version": 1}`},
		{call: compatible + "--describe-acls-supported True --idempotent-producer-supported True"},
		{call: "kafka-topics --delete --topic k-.*"},
	})

// shareSteps: share groups, which only Kafka has.
var shareSteps = slices.Concat(
	calls(`
	kafka-topics --create --topic s-one --config retention.ms=-1
`),
	[]step{{do: fill("s-one", 1, 3)}},
	calls(`
	kafka-share-groups --list
	kafka-share-groups --list --state
	kafka-share-groups --describe --group s-share
	kafka-share-groups --delete --group s-share
	kafka-share-groups --reset-offsets --group s-share --topic s-one --to-earliest --execute
	kafka-console-share-consumer --topic s-one --group s-share --max-messages 3 --timeout-ms 5000
`))

func reassignment(replica string) string {
	return `{"version": 1, "partitions": [{"topic": "k-one", "partition": 0, "replicas": [` + replica + `]}]}`
}
