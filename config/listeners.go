package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/kafkaconfig"
)

// takeListeners lets Kafka's own keys stand in for listen, advertise, broker-id and rack where those are not given.
func (s *sources) takeListeners(c *Config) {
	s.takeListener(c, "listeners", "listen")
	s.takeListener(c, "advertised.listeners", "advertise")
	for _, pair := range [][2]string{{"node.id", "broker-id"}, {"broker.id", "broker-id"}, {"broker.rack", "rack"}} {
		if text, ok := c.Kafka[pair[0]]; ok && text != "" {
			s.add(pair[1], text, c.kafka[pair[0]].Source)
		}
	}
}

func (s *sources) takeListener(c *Config, from, to string) {
	text, ok := c.Kafka[from]
	if !ok {
		return
	}
	source := c.kafka[from].Source
	address, err := c.plaintextListener(text)
	if err != nil {
		s.problem("kafka."+from, source, "keep one PLAINTEXT listener beside those of the controller", "%v", err)
		return
	}
	s.add(to, address, source)
}

// plaintextListener finds the one listener for clients: its security protocol is PLAINTEXT and the controller does not use it.
func (c *Config) plaintextListener(text string) (string, error) {
	protocols := map[string]string{}
	for _, pair := range kafkaconfig.ParseList(c.Kafka["listener.security.protocol.map"]) {
		name, protocol, _ := strings.Cut(pair, ":")
		protocols[strings.ToUpper(name)] = strings.ToUpper(protocol)
	}
	controller := kafkaconfig.ParseList(c.Kafka["controller.listener.names"])
	var found []string
	for _, l := range kafkaconfig.ParseList(text) {
		name, address, ok := strings.Cut(l, "://")
		if !ok {
			return "", fmt.Errorf("%q is not name://host:port", l)
		}
		if slices.ContainsFunc(controller, func(n string) bool { return strings.EqualFold(n, name) }) {
			continue
		}
		protocol := protocols[strings.ToUpper(name)]
		if protocol == "" {
			protocol = strings.ToUpper(name)
		}
		if protocol != "PLAINTEXT" {
			return "", fmt.Errorf("listener %s wants %s, and TLS and SASL are not supported yet", l, protocol)
		}
		found = append(found, address)
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%q has no listener for clients", text)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d listeners for clients are not supported yet", len(found))
}
