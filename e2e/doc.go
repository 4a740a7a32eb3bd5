// Package e2e holds tests that run real clients against the broker's binary: Kafka Connect, Debezium, MirrorMaker, Kafka's
// own tools, kcat and franz-go. Each test starts a broker of its own and can be run alone; e2e/setup.sh installs what they
// need.
package e2e
