package e2e

// anything is a whole answer, of whatever words.
const anything = `(?s)\A.*\z`

// unsupported is a whole answer of a tool that asked for a request that is not served.
func unsupported(request string) string { return `(?s)\A.*does not support ` + request + `\b.*\z` }

// resourceType is a whole answer of a tool that asked for the configs of something that has none here.
func resourceType(number string) string {
	return `(?s)\A.*Unsupported resource type: ` + number + `\n.*\z`
}

// byDesign are differences that stay.
var byDesign = []*difference{
	{
		tools: "kafka-topics", calls: `--replication-factor 2`,
		kafka: `(?s)\Astatus 1\n.*Unable to replicate the partition 2 time.*\z`, ours: `\Astatus 0\nCreated topic t-replicas\.\n--\n\z`,
		what: "A topic with more replicas than there are brokers is refused by Kafka and made here; it tells the factor that was asked for.",
		why:  "Copies are the object store's business, and Connect, MirrorMaker and others ask for 3 by default (2.0.5).",
	},
	{
		tools: "kafka-topics", calls: `--topics-with-overrides`,
		kafka: `^Topic: .* Configs: min\.insync\.replicas=1\n`,
		what:  "Kafka lists topics without overrides too, because of `min.insync.replicas` below.",
		why:   "As below.",
	},
	{
		tools: "kafka-topics, kafka-configs", calls: `^kafka-(topics|configs) --describe`,
		kafka: ` min\.insync\.replicas=1$|^ min\.insync\.replicas=1 sensitive=false synonyms=\{DYNAMIC_DEFAULT_BROKER_CONFIG:min\.insync\.replicas=1\}\n|` +
			`DYNAMIC_DEFAULT_BROKER_CONFIG:min\.insync\.replicas=1, |min\.insync\.replicas=1,`,
		what: "Kafka shows `min.insync.replicas=1` as a default of the cluster that somebody set.",
		why:  "Kafka 4.1 and later set it when storage is formatted, for eligible leader replicas (KIP-966). Here the key is kept and has no meaning.",
	},
	{
		tools: "kafka-configs", calls: `--entity-type brokers --entity-name 1 --all`,
		kafka: kraftKeys, ours: kraftKeys,
		what: "The keys of controllers, roles, log directories and of the replication of internal topics have their defaults here.",
		why:  "The Kafka beside it is told to be a single node with a controller; these keys have no meaning here (see CONFIGURATION.md).",
	},
	{
		tools: "kafka-configs", calls: `--entity-type broker-loggers`,
		kafka: anything, ours: resourceType("8"),
		what: "The levels of a broker's loggers cannot be seen or changed.",
		why:  "They are names of Java classes. The level of the log is a flag.",
	},
	{
		tools: "kafka-metadata-quorum", calls: `^kafka-metadata-quorum`,
		kafka: anything, ours: unsupported("DESCRIBE_QUORUM"),
		what: "There is no KRaft quorum to describe.",
		why:  "Agreed state is in etcd, which has tools of its own.",
	},
	{
		tools: "kafka-features", calls: `^kafka-features \$broker describe`,
		kafka: `^Feature: .*\n`,
		what:  "No features are listed.",
		why:   "They are levels of KRaft's metadata and of protocols that are not there yet.",
	},
	{
		tools: "kafka-features", calls: `^kafka-features \$broker upgrade`,
		kafka: anything, ours: unsupported("UPDATE_FEATURES"),
		what: "Features cannot be upgraded.",
		why:  "As above.",
	},
	{
		tools: "kafka-cluster", calls: `unregister`,
		kafka: anything, ours: `\Astatus 0\nThe target cluster does not support the broker unregistration API\.\n--\n\z`,
		what: "A broker cannot be unregistered.",
		why:  "A broker that is gone leaves by itself when its lease ends.",
	},
}

const kraftKeys = `^ (controller\.listener\.names|controller\.quorum\.voters|listener\.security\.protocol\.map|listeners|log\.dirs|process\.roles|` +
	`offsets\.topic\.replication\.factor|(transaction\.state\.log|share\.coordinator\.state\.topic)\.(min\.isr|replication\.factor))=.*\n`

// notYet are differences that will go.
var notYet = []*difference{
	{
		tools: "kafka-broker-api-versions", calls: `^kafka-broker-api-versions`,
		kafka: `^ (Produce\(0\)|Fetch\(1\)).*\n|` + absentRequests + `\d.*\n`, ours: `^ (Produce\(0\)|Fetch\(1\)).*\n|` + absentRequests + `UNSUPPORTED.*\n`,
		what: "Fewer requests are served, and Produce up to version 11 and Fetch up to 16 of 13 and 18.",
		why:  "The README lists what is served. Clients do without the rest, or the tool says that it is not supported.",
	},
	{
		tools: "kafka-producer-perf-test", calls: `--transaction-duration-ms`,
		kafka: `(?s)\Astatus 0\n.* records sent.*\z`, ours: `(?s)\Astatus 1\n.*transactions are not supported by this broker\n.*\z`,
		what: "Transactional producers fail at once.",
		why:  "No transactions yet.",
	},
	{
		tools: "kafka-transactions", calls: `^kafka-transactions \$broker (list|describe|find-hanging)|^kafka-transactions (list|describe|find-hanging)`,
		kafka: anything, ours: `(?s)\Astatus 1\n.*(does not support (LIST_TRANSACTIONS|DESCRIBE_PRODUCERS)|type=TRANSACTION).*\z`,
		what: "Nothing can be listed or described.",
		why:  "No transactions yet.",
	},
	{
		tools: "kafka-console-consumer", calls: `group\.protocol=consumer`,
		kafka: `(?s)\Astatus 0\n.*Processed a total of 10 messages\n\z`, ours: `(?s)\Astatus 0\n--\n.*does not support the new CONSUMER group protocol.*\z`,
		what: "Consumers with `group.protocol=consumer` (KIP-848) say that they need the classic protocol, which is their default.",
		why:  "Only classic groups yet.",
	},
	{
		tools: "kafka-configs", calls: `--entity-type groups --entity-name`,
		kafka: anything, ours: resourceType("32"),
		what: "Groups have no settings of their own.",
		why:  "They belong to the protocols of KIP-848, KIP-932 and KIP-1071.",
	},
	{
		tools: "kafka-share-groups, kafka-console-share-consumer", calls: `^kafka-share-groups --(describe|reset-offsets)|^kafka-console-share-consumer`,
		kafka: anything, ours: unsupported("SHARE_GROUP_(DESCRIBE|HEARTBEAT)"),
		what: "Share groups (KIP-932) can be listed, and there are none.",
		why:  "No share groups yet.",
	},
	{
		tools: "kafka-streams-groups", calls: `^kafka-streams-groups --describe`,
		kafka: anything, ours: unsupported("STREAMS_GROUP_DESCRIBE"),
		what: "Streams groups (KIP-1071) can be listed, and there are none. Streams with the classic protocol is not concerned.",
		why:  "No streams groups yet.",
	},
	{
		tools: "kafka-client-metrics, kafka-configs", calls: `^kafka-client-metrics|--entity-type client-metrics`,
		kafka: anything, ours: `(?s)\A.*(does not support LIST_CONFIG_RESOURCES|Unsupported resource type: 16)\n.*\z`,
		what: "Clients cannot be told to send metrics (KIP-714).",
		why:  "Not yet.",
	},
	{
		tools: "kafka-delegation-tokens", calls: `^kafka-delegation-tokens`,
		kafka: anything, ours: unsupported(`\w+_DELEGATION_TOKEN`),
		what: "Delegation tokens are not supported; Kafka says that this listener does not allow them.",
		why:  "No authentication yet.",
	},
	{
		tools: "kafka-configs", calls: `--entity-type (users|clients|ips)`,
		kafka: anything, ours: unsupported("(DESCRIBE_CLIENT_QUOTAS|ALTER_USER_SCRAM_CREDENTIALS)"),
		what: "Quotas and SCRAM users cannot be seen or changed.",
		why:  "No quotas and no SCRAM yet.",
	},
}

// absentRequests begins the lines of kafka-broker-api-versions about requests that are not served.
const absentRequests = `^ (AddPartitionsToTxn|AddOffsetsToTxn|EndTxn|WriteTxnMarkers|TxnOffsetCommit|AlterConfigs|AlterReplicaLogDirs|` +
	`\w+DelegationToken|\w+ClientQuotas|\w+UserScramCredentials|DescribeQuorum|UpdateFeatures|DescribeProducers|` +
	`UnregisterBroker|DescribeTransactions|ListTransactions|ConsumerGroup\w+|ListConfigResources|Share\w+|\w+RaftVoter|\w+ShareGroup\w+|` +
	`StreamsGroup\w+)\(\d+\): `
