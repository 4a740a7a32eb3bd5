// Package conformance holds named tests of the rules of Kafka's protocol (docs/KAFKA.md) that any broker can be asked, and the raw
// client that they ask with. They say what Apache Kafka 4.3.1 does: against it all of them pass, so that an expectation that
// is wrong shows there.
//
// Against any address, with one command:
//
//	go test ./conformance -count=1 -v -bootstrap 127.0.0.1:9092
//
// Without -bootstrap a broker of this repository is started in the process of the test. Each test is named after its rules, and
// so are its subtests: -run 'TestG' is the rules of groups, -run '/F13' one rule of Fetch.
//
// The broker must be the only one of its cluster, at its default settings, without authentication. Topics and groups have
// names of their own in each run and are deleted at its end. Some dynamic settings of the broker (message.max.bytes,
// log.segment.bytes) are changed for a moment and then unset: do not point the tests at a broker that others rely on. With
// group.initial.rebalance.delay.ms=0 a run takes seconds, with Kafka's 3000 about a minute.
package conformance
