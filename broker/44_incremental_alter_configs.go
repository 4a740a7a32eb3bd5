package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/protocol"
)

// IncrementalAlterConfigs: v0-1
//
// Each resource all or none (M10). What is set is in force when the answer is sent.
func init() {
	handle(protocol.KeyIncrementalAlterConfigs, (*Broker).incrementalAlterConfigs)
}

func (b *Broker) incrementalAlterConfigs(c *call, req *kmsg.IncrementalAlterConfigsRequest) {
	ctx, cancel := adminContext(c.ctx, 0)
	defer cancel()
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	type ref struct {
		kind kmsg.ConfigResourceType
		name string
	}
	times := make(map[ref]int, len(req.Resources))
	v := b.view()
	var doubted doubts
	for _, r := range req.Resources {
		times[ref{r.ResourceType, r.ResourceName}]++
		if r.ResourceType == kmsg.ConfigResourceTypeTopic {
			doubted.known(v, r.ResourceName)
		}
	}
	b.catchUp(ctx, doubted)
	for _, r := range req.Resources {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		refused := &refusal{protocol.CodeInvalidRequest, "Each resource must appear at most once."}
		if times[ref{r.ResourceType, r.ResourceName}] == 1 {
			refused = b.alterConfigs(ctx, r, req.ValidateOnly)
		}
		if refused != nil {
			out.ErrorCode, out.ErrorMessage = int16(refused.code), &refused.message
		}
		resp.Resources = append(resp.Resources, out)
	}
	c.reply(resp)
}

// alterAttempts bounds how often a change is tried against changes by others. Of those who try at once one succeeds, so this is for many.
const alterAttempts = 50

func (b *Broker) alterConfigs(ctx context.Context, r kmsg.IncrementalAlterConfigsRequestResource, validateOnly bool) *refusal {
	ops := make([]kafkaconfig.Op, 0, len(r.Configs))
	for _, c := range r.Configs {
		op := kafkaconfig.Op{Name: strings.Clone(c.Name), Kind: kafkaconfig.OpKind(c.Op)}
		if c.Value != nil {
			op.Value = kmsg.StringPtr(strings.Clone(*c.Value))
		}
		ops = append(ops, op)
	}
	var refused *refusal
	for range alterAttempts {
		v := b.view()
		var err error
		switch r.ResourceType {
		case kmsg.ConfigResourceTypeTopic:
			refused, err = b.alterTopic(ctx, v, r.ResourceName, ops, validateOnly)
		case kmsg.ConfigResourceTypeBroker:
			refused, err = b.alterBroker(ctx, v, r.ResourceName, ops, validateOnly)
		default:
			return &refusal{protocol.CodeInvalidRequest, fmt.Sprintf("Unsupported resource type: %d", r.ResourceType)}
		}
		if err == nil || refused != nil {
			return refused
		}
		refused = refusalOf(err)
		if !errors.Is(err, metadata.ErrStale) && !errors.Is(err, metadata.ErrUnknownTopic) {
			return refused
		}
	}
	return refused
}

func (b *Broker) alterTopic(ctx context.Context, v *view, name string, ops []kafkaconfig.Op, validateOnly bool) (*refusal, error) {
	if name == "" {
		return &refusal{protocol.CodeInvalidRequest, "Default topic resources are not allowed."}, nil
	}
	if err := checkTopicName(name); err != nil {
		return &refusal{protocol.CodeInvalidTopicException, err.Error()}, nil
	}
	t, ok := v.img.Topics[name]
	if !ok {
		return &refusal{protocol.CodeUnknownTopicOrPartition, fmt.Sprintf("The topic '%s' does not exist.", name)}, nil
	}
	want, err := kafkaconfig.Apply(kafkaconfig.TopicScope, ops, t.Configs)
	if err == nil {
		err = kafkaconfig.ValidateTopicSet(want, v.layers)
	}
	if err != nil {
		return refusalOf(err), nil
	}
	if validateOnly {
		return nil, nil
	}
	err = b.meta.SetTopicConfigs(ctx, t.ID, want, t.Rev)
	b.catchUp(ctx, mayBeOld(t, err))
	return nil, err
}

func (b *Broker) alterBroker(ctx context.Context, v *view, name string, ops []kafkaconfig.Op, validateOnly bool) (*refusal, error) {
	id, refused := v.brokerResource(name)
	if refused != nil {
		return refused, nil
	}
	set := v.img.BrokerConfigs[id]
	want, err := kafkaconfig.Apply(kafkaconfig.BrokerScope, ops, set.Values)
	if err == nil {
		err = kafkaconfig.ValidateBroker(id == metadata.DefaultBroker, changedKeys(ops, want), want)
	}
	if err != nil {
		return refusalOf(err), nil
	}
	if validateOnly {
		return nil, nil
	}
	return nil, b.meta.SetBrokerConfigs(ctx, id, want, set.Rev)
}

// changedKeys returns the keys that ops give a value, with the values they will have. Any key may be deleted, as in Kafka.
func changedKeys(ops []kafkaconfig.Op, want map[string]string) map[string]string {
	changed := make(map[string]string, len(ops))
	for _, op := range ops {
		if value, ok := want[op.Name]; ok {
			changed[op.Name] = value
		}
	}
	return changed
}
