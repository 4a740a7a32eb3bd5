package e2e

var topicSteps = calls(`
	kafka-topics --list
	kafka-topics --create --topic t-one --partitions 3 --replication-factor 1 --config cleanup.policy=compact --config retention.ms=3600000
	kafka-topics --create --topic t-default
	kafka-topics --create --topic t.dotted
	kafka-topics --create --topic t_dotted
	kafka-topics --create --topic t-assigned --replica-assignment 1,1
	kafka-topics --create --topic t-one
	kafka-topics --create --topic t-one --if-not-exists
	kafka-topics --create --topic 'not valid'
	kafka-topics --create --topic ..
	kafka-topics --create --topic ''
	kafka-topics --create --topic t-zero --partitions 0
	kafka-topics --create --topic t-negative --partitions -2
	kafka-topics --create --topic t-many --partitions 10001
	kafka-topics --create --topic t-replicas --replication-factor 2
	kafka-topics --delete --topic t-replicas --if-exists
	kafka-topics --create --topic t-replicas0 --replication-factor 0
	kafka-topics --create --topic t-config --config no.such.config=1
	kafka-topics --create --topic t-config --config retention.ms=abc
	kafka-topics --create --topic t-config --config cleanup.policy=shred
	kafka-topics --create --topic t-config --config min.insync.replicas=0
	kafka-topics --create --topic t-config --config retention.ms
	kafka-topics --create --topic t-elsewhere --replica-assignment 9
	kafka-topics --create --topic t-uneven --replica-assignment 1:9,1
	kafka-topics --create --topic t-twice --replica-assignment 1:1
	kafka-topics --create
	kafka-topics --list
	kafka-topics --list --exclude-internal
	kafka-topics --list --topic t-.*
	kafka-topics --list --topic none
	kafka-topics --describe --topic t-one
	kafka-topics --describe --topic 't-one|t-default'
	kafka-topics --describe
	kafka-topics --describe --topic absent
	kafka-topics --describe --topic absent --if-exists
	kafka-topics --describe --topic-id AAAAAAAAAAAAAAAAAAAAAA
	kafka-topics --describe --topic-id yyyyyyyyyyyyyyyyyyyyyw
	kafka-topics --describe --topics-with-overrides
	kafka-topics --describe --under-replicated-partitions
	kafka-topics --describe --unavailable-partitions
	kafka-topics --describe --under-min-isr-partitions
	kafka-topics --describe --at-min-isr-partitions --topic t-one
	kafka-topics --describe --topic t-one --partition-size-limit-per-response 1
	kafka-topics --alter --topic t-one --partitions 5
	kafka-topics --alter --topic t-one --partitions 5
	kafka-topics --alter --topic t-one --partitions 4
	kafka-topics --alter --topic t-one --partitions 0
	kafka-topics --alter --topic t-one --partitions 6 --replica-assignment 1,1,1,1,1,1
	kafka-topics --alter --topic t-one --partitions 7 --replica-assignment 1,1,1,1,1,1,9
	kafka-topics --alter --topic absent --partitions 2
	kafka-topics --alter --topic absent --partitions 2 --if-exists
	kafka-topics --describe --topic t-one
	kafka-topics --delete --topic absent
	kafka-topics --delete --topic absent --if-exists
	kafka-topics --delete --topic t-one
	kafka-topics --describe --topic t-one
	kafka-topics --create --topic t-one --partitions 2
	kafka-topics --describe --topic t-one
	kafka-topics --delete --topic t.*
	kafka-topics --list
	kafka-topics --version
`)

// configSteps: values and errors of every kind of config, and every level that --all shows.
var configSteps = calls(`
	kafka-topics --create --topic c-one --config retention.ms=1000
	kafka-configs --describe --entity-type topics --entity-name c-one
	kafka-configs --describe --entity-type topics --entity-name c-one --all
	kafka-configs --describe --entity-type topics
	kafka-configs --describe --topic c-one
	kafka-configs --describe --entity-type topics --entity-name absent
	kafka-configs --describe --entity-type topics --entity-name 'not valid'
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config retention.ms=2000,cleanup.policy=[compact,delete]
	kafka-configs --describe --entity-type topics --entity-name c-one
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config segment.bytes=1048577 --delete-config retention.ms
	kafka-configs --describe --entity-type topics --entity-name c-one
	kafka-configs --alter --entity-type topics --entity-name c-one --delete-config retention.ms
	kafka-configs --alter --entity-type topics --entity-name c-one --delete-config no.such.config
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config no.such.config=1
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config retention.ms=-2
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config retention.ms=abc
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config retention.ms=
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config cleanup.policy=shred
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config compression.type=brotli
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config min.cleanable.dirty.ratio=1.5
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config unclean.leader.election.enable=perhaps
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config max.message.bytes=-1
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config segment.bytes=13
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config message.timestamp.type=Sometimes
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config message.format.version=3.0
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config remote.storage.enable=true
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config compression.gzip.level=10
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config leader.replication.throttled.replicas=x
	kafka-configs --alter --entity-type topics --entity-name c-one --add-config min.compaction.lag.ms=5,max.compaction.lag.ms=4
	kafka-configs --alter --entity-type topics --entity-name absent --add-config retention.ms=1
	kafka-configs --alter --entity-type topics --entity-name c-one
	kafka-configs --alter --entity-type topics --add-config retention.ms=1
	kafka-configs --describe --entity-type topics --entity-name c-one
	kafka-configs --describe --entity-type brokers --entity-name 1
	kafka-configs --describe --entity-type brokers --entity-name 1 --all
	kafka-configs --describe --entity-type brokers --entity-default
	kafka-configs --describe --entity-type brokers
	kafka-configs --describe --broker 1
	kafka-configs --describe --broker-defaults
	kafka-configs --describe --entity-type brokers --entity-name 9
	kafka-configs --describe --entity-type brokers --entity-name one
	kafka-configs --alter --entity-type brokers --entity-name 1 --add-config log.retention.ms=7200000
	kafka-configs --describe --entity-type brokers --entity-name 1
	kafka-configs --describe --entity-type topics --entity-name c-one --all
	kafka-configs --alter --entity-type brokers --entity-default --add-config log.retention.ms=7300000,message.max.bytes=2000000
	kafka-configs --describe --entity-type brokers --entity-default
	kafka-configs --describe --entity-type brokers --entity-name 1
	kafka-configs --describe --entity-type brokers
	kafka-configs --alter --entity-type brokers --entity-name 1 --delete-config log.retention.ms
	kafka-configs --describe --entity-type topics --entity-name c-one --all
	kafka-configs --alter --entity-type brokers --entity-default --delete-config log.retention.ms,message.max.bytes
	kafka-configs --describe --entity-type brokers --entity-default
	kafka-configs --alter --entity-type brokers --entity-default --delete-config log.retention.ms
	kafka-configs --alter --entity-type brokers --entity-default --add-config log.retention.ms=abc
	kafka-configs --alter --entity-type brokers --entity-default --add-config log.cleanup.policy=shred
	kafka-configs --alter --entity-type brokers --entity-default --add-config num.partitions=4
	kafka-configs --alter --entity-type brokers --entity-default --delete-config num.partitions
	kafka-configs --alter --entity-type brokers --entity-default --add-config log.dirs=elsewhere
	kafka-configs --alter --entity-type brokers --entity-name 1 --add-config node.id=7
	kafka-configs --alter --entity-type brokers --entity-name 1 --add-config auto.create.topics.enable=false
	kafka-configs --alter --entity-type brokers --entity-name 1 --add-config no.such.config=1
	kafka-configs --alter --entity-type brokers --entity-name 1 --delete-config no.such.config
	kafka-configs --alter --entity-type brokers --entity-default --add-config listeners=PLAINTEXT://:1
	kafka-configs --alter --entity-type brokers --entity-default --add-config num.io.threads=9
	kafka-configs --alter --entity-type brokers --entity-default --delete-config num.io.threads
	kafka-configs --describe --entity-type broker-loggers --entity-name 1
	kafka-configs --alter --entity-type broker-loggers --entity-name 1 --add-config kafka.server=WARN
	kafka-configs --describe --entity-type groups
	kafka-configs --describe --entity-type groups --entity-name c-group
	kafka-configs --alter --entity-type groups --entity-name c-group --add-config consumer.session.timeout.ms=50000
	kafka-configs --describe --entity-type groups --entity-name c-group
	kafka-configs --alter --entity-type groups --entity-name c-group --delete-config consumer.session.timeout.ms
	kafka-configs --describe --entity-type client-metrics
	kafka-configs --describe --entity-type users
	kafka-configs --describe --entity-type clients
	kafka-configs --describe --entity-type ips
	kafka-configs --alter --entity-type users --entity-name alice --add-config consumer_byte_rate=1024
	kafka-configs --describe --entity-type users --entity-name alice
	kafka-configs --alter --entity-type users --entity-name alice --delete-config consumer_byte_rate
	kafka-configs --alter --entity-type users --entity-name alice --add-config SCRAM-SHA-256=[password=alice-secret]
	kafka-configs --alter --entity-type users --entity-name alice --delete-config SCRAM-SHA-256
	kafka-configs --describe --entity-type nothing
	kafka-topics --delete --topic c-one
`)
