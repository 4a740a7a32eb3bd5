package broker

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// ApiVersions: v0-4
//
// The table of served keys is the protocol package's. No feature is finalized, so Java producers keep to the protocol
// of transactions before KIP-890 and nobody asks for KIP-848.
func init() { handle(protocol.KeyAPIVersions, (*Broker).apiVersions) }

// softwareName is what a client may call itself (A5).
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func (b *Broker) apiVersions(c *call, req *kmsg.ApiVersionsRequest) {
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	if req.Version >= 3 && !(softwareName.MatchString(req.ClientSoftwareName) && softwareName.MatchString(req.ClientSoftwareVersion)) {
		resp.ErrorCode = int16(protocol.CodeInvalidRequest)
		c.reply(resp)
		return
	}
	for _, a := range protocol.APIs() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = int16(a.Key), a.AdvertisedMin, a.Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	c.reply(resp)
}

// unsupportedAPIVersions answers an ApiVersions request of a version that is not served: a v0 body, error 35, and
// the one row that the client needs to ask again (A3, A4).
func (b *Broker) unsupportedAPIVersions(c *call) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = int16(protocol.CodeUnsupportedVersion)
	a, _ := protocol.LookupAPI(int16(protocol.KeyAPIVersions))
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = int16(a.Key), a.Min, a.Max
	resp.ApiKeys = append(resp.ApiKeys, k)
	c.header.Version = 0
	c.reply(resp)
}
