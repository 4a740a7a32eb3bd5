package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// SaslHandshake: v0-1
//
// The listener is plaintext, so there is nothing to agree on: Kafka answers ILLEGAL_SASL_STATE and names no mechanism.
func init() { handle(protocol.KeySaslHandshake, (*Broker).saslHandshake) }

func (b *Broker) saslHandshake(c *call, req *kmsg.SASLHandshakeRequest) {
	resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
	resp.ErrorCode = int16(protocol.CodeIllegalSaslState)
	c.reply(resp)
}
