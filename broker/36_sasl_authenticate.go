package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// SaslAuthenticate: v0-2
//
// Not preceded by a handshake on a plaintext listener, so always ILLEGAL_SASL_STATE.
func init() { handle(protocol.KeySaslAuthenticate, (*Broker).saslAuthenticate) }

func (b *Broker) saslAuthenticate(c *call, req *kmsg.SASLAuthenticateRequest) {
	resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	resp.ErrorCode = int16(protocol.CodeIllegalSaslState)
	resp.ErrorMessage = kmsg.StringPtr("SaslAuthenticate request received after successful authentication")
	c.reply(resp)
}
