package broker

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// DescribeConfigs: v1-4
//
// Every key of Kafka's with the value as it was given, and where it was given (M8, M9).
func init() { handle(protocol.KeyDescribeConfigs, (*Broker).describeConfigs) }

func (b *Broker) describeConfigs(c *call, req *kmsg.DescribeConfigsRequest) {
	v := b.view()
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	type ref struct {
		kind kmsg.ConfigResourceType
		name string
	}
	answered := make(map[ref]bool, len(req.Resources))
	for _, r := range req.Resources {
		if answered[ref{r.ResourceType, r.ResourceName}] {
			continue
		}
		answered[ref{r.ResourceType, r.ResourceName}] = true
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		if len(r.ConfigNames) == 0 {
			r.ConfigNames = nil // an empty list asks for all keys, as null does
		}
		entries, refused := v.describe(r)
		if refused != nil {
			out.ErrorCode, out.ErrorMessage = int16(refused.code), &refused.message
		}
		for _, e := range entries {
			out.Configs = append(out.Configs, describedConfig(e, req))
		}
		resp.Resources = append(resp.Resources, out)
	}
	c.reply(resp)
}

func (v *view) describe(r kmsg.DescribeConfigsRequestResource) ([]kafkaconfig.Entry, *refusal) {
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := checkTopicName(r.ResourceName); err != nil {
			return nil, &refusal{protocol.CodeInvalidTopicException, err.Error()}
		}
		t, ok := v.img.Topics[r.ResourceName]
		if !ok {
			return nil, &refusal{protocol.CodeUnknownTopicOrPartition, "This server does not host this topic-partition."}
		}
		return kafkaconfig.DescribeTopic(t.Configs, v.layers, r.ConfigNames), nil
	case kmsg.ConfigResourceTypeBroker:
		if r.ResourceName == "" {
			return kafkaconfig.DescribeClusterDefault(v.layers.ClusterDefault, r.ConfigNames), nil
		}
		if refused := v.isSelf(r.ResourceName); refused != nil {
			return nil, refused
		}
		return kafkaconfig.DescribeBroker(v.layers, r.ConfigNames), nil
	}
	return nil, &refusal{protocol.CodeInvalidRequest, fmt.Sprintf("Unsupported resource type: %d", r.ResourceType)}
}

// isSelf refuses a broker resource that names another broker: it must be asked there.
func (v *view) isSelf(name string) *refusal {
	id, err := strconv.ParseInt(name, 10, 32)
	switch {
	case err != nil || name != strconv.FormatInt(id, 10): // "+1" and "01" would each be another resource to answer (D10)
		return &refusal{protocol.CodeInvalidRequest, fmt.Sprintf("Broker id must be an integer, but it is: %s", name)}
	case int32(id) != v.self:
		return &refusal{protocol.CodeInvalidRequest, fmt.Sprintf("Unexpected broker id, expected %d or empty string, but received %s", v.self, name)}
	}
	return nil
}

func describedConfig(e kafkaconfig.Entry, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name, out.Value, out.ReadOnly, out.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	out.Source, out.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Type)
	out.IsDefault = e.Source == kafkaconfig.SourceDefault
	if req.IncludeDocumentation {
		out.Documentation = &e.Doc
	}
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			syn := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			syn.Name, syn.Value, syn.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			out.ConfigSynonyms = append(out.ConfigSynonyms, syn)
		}
	}
	return out
}

// brokerResource returns whose dynamic configs a broker resource names: this broker's or everyone's defaults.
func (v *view) brokerResource(name string) (int32, *refusal) {
	if name == "" {
		return metadata.DefaultBroker, nil
	}
	return v.self, v.isSelf(name)
}
