package conformance

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// Kinds of resources that have configs.
const (
	TopicResource  = kmsg.ConfigResourceTypeTopic
	BrokerResource = kmsg.ConfigResourceTypeBroker
)

// Operations of IncrementalAlterConfigs.
const (
	OpSet      = kmsg.IncrementalAlterConfigOpSet
	OpDelete   = kmsg.IncrementalAlterConfigOpDelete
	OpAppend   = kmsg.IncrementalAlterConfigOpAppend
	OpSubtract = kmsg.IncrementalAlterConfigOpSubtract
)

// An AlterOp changes one config.
type AlterOp = kmsg.IncrementalAlterConfigsRequestResourceConfig

// AlterOf does an operation with a value.
func AlterOf(op kmsg.IncrementalAlterConfigOp, name, value string) AlterOp {
	return AlterOp{Name: name, Op: op, Value: &value}
}

// AlterSet sets a config.
func AlterSet(name, value string) AlterOp { return AlterOf(OpSet, name, value) }

// AlterRequest changes configs of one resource.
func AlterRequest(kind kmsg.ConfigResourceType, name string, ops ...AlterOp) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: ops}}
	return req
}

// Altered changes configs of one resource and returns its error.
func Altered(c *Client, kind kmsg.ConfigResourceType, name string, ops ...AlterOp) int16 {
	c.T.Helper()
	return Ask[*kmsg.IncrementalAlterConfigsResponse](c, AlterRequest(kind, name, ops...)).Resources[0].ErrorCode
}

// Described is one config as DescribeConfigs tells it.
type Described = kmsg.DescribeConfigsResponseResourceConfig

// DescribeRequest asks for configs of one resource with their synonyms, all of them without keys.
func DescribeRequest(kind kmsg.ConfigResourceType, name string, keys ...string) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms = 4, true
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: keys}}
	return req
}

// DescribedAs returns the configs of one resource by name.
func DescribedAs(c *Client, kind kmsg.ConfigResourceType, name string, keys ...string) map[string]Described {
	c.T.Helper()
	r := Ask[*kmsg.DescribeConfigsResponse](c, DescribeRequest(kind, name, keys...)).Resources[0]
	WantCode(c.T, "describe "+name, r.ErrorCode, protocol.CodeNone)
	out := map[string]Described{}
	for _, e := range r.Configs {
		out[e.Name] = e
	}
	return out
}

// Shown is value, source, type and synonyms of a config in one line.
func Shown(e Described) string {
	text := func(v *string) string {
		if v == nil {
			return "null"
		}
		return *v
	}
	s := fmt.Sprintf("%s source=%d type=%d", text(e.Value), e.Source, e.ConfigType)
	for _, syn := range e.ConfigSynonyms {
		s += fmt.Sprintf(" %s=%s@%d", syn.Name, text(syn.Value), syn.Source)
	}
	return s
}
