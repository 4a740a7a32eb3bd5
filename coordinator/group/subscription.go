package group

import "encoding/binary"

// consumerType is the protocol type of consumers, the only one whose metadata is looked into.
const consumerType = "consumer"

// subscriptions returns the topics that the members subscribe to, and nil if that cannot be told. They protect
// offsets from expiry and deletion (G16).
func (g *group) subscriptions() map[string]bool {
	if g.protocolType != consumerType {
		return nil
	}
	topics := make(map[string]bool)
	if g.protocol == nil && len(g.members) > 0 {
		return nil
	}
	ok := true
	g.each(func(mb *member) {
		ok = ok && parseSubscription(mb.metadata(*g.protocol), topics)
	})
	if !ok {
		return nil
	}
	return topics
}

// parseSubscription adds the topics of a consumer's metadata to topics, and reports whether it could be read. Only the
// part that all versions share is read: int16 version, then an array of strings.
func parseSubscription(b []byte, topics map[string]bool) bool {
	if len(b) < 6 {
		return false
	}
	if int16(binary.BigEndian.Uint16(b)) < 0 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	if n < 0 {
		return false
	}
	b = b[6:]
	for range n {
		if len(b) < 2 {
			return false
		}
		length := int(int16(binary.BigEndian.Uint16(b)))
		if length < 0 || length > len(b)-2 {
			return false
		}
		topics[string(b[2:2+length])] = true
		b = b[2+length:]
	}
	return true
}

// subscribes reports whether a member may want the topic: if in doubt, it does.
func (g *group) subscribes(topic string) bool {
	if g.subscribed == nil {
		return g.protocolType == consumerType
	}
	return g.subscribed[topic]
}
