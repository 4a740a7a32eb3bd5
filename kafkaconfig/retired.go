package kafkaconfig

import "strings"

// Retired reports whether a broker key was in earlier versions of Kafka and is gone in 4.3. People's server.properties still
// hold such keys; Kafka 4 warns of them and goes on.
func Retired(name string) bool {
	return strings.HasPrefix(name, "zookeeper.") || strings.HasPrefix(name, "password.encoder.") || retired[name]
}

var retired = map[string]bool{
	"broker.id.generation.enable": true, "control.plane.listener.name": true, "delegation.token.master.key": true,
	"inter.broker.protocol.version": true, "log.message.downconversion.enable": true, "log.message.format.version": true,
	"log.message.timestamp.difference.max.ms": true, "max.reserved.broker.id": true, "offsets.commit.required.acks": true,
	"reserved.broker.max.id": true,
}
