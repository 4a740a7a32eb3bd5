package kafkaconfig

// Why keys have no meaning here. They end up in DescribeConfigs' documentation and docs/CONFIGURATION.md.
const (
	used = ""

	noCleanerTuning    = "compaction is one task, whose buffers are part of the memory budget"
	noTiering          = "all data is in the object store; there is no local tier"
	noReplication      = "the object store makes data durable; brokers keep no replicas"
	noLocalLog         = "there are no local log segments, indexes or directories"
	noController       = "there is no KRaft controller; cluster state is in etcd"
	noSASL             = "authentication and authorization are not supported yet"
	noTLS              = "TLS is not supported yet"
	noTransactions     = "transactions are not supported yet"
	noConsumerProtocol = "the consumer group protocol of KIP-848 is not supported yet"
	noShare            = "share groups are not supported yet"
	noStreams          = "streams groups are not supported yet"
	noGroupTuning      = "the group coordinator has no such knob"
	noQuotas           = "quotas are not supported yet"
	noJMX              = "metrics are served over HTTP; there are no JVM reporters"
	noPlugins          = "Java plug-ins cannot be loaded"
	noPurgatory        = "waiting requests are kept without purgatories"
	noThreads          = "the runtime schedules work and sizes buffers by itself"
)
