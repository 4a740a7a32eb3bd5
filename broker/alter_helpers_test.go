package broker

import "github.com/twmb/franz-go/pkg/kmsg"

// Operations of IncrementalAlterConfigs.
const (
	opSet      = kmsg.IncrementalAlterConfigOpSet
	opDelete   = kmsg.IncrementalAlterConfigOpDelete
	opAppend   = kmsg.IncrementalAlterConfigOpAppend
	opSubtract = kmsg.IncrementalAlterConfigOpSubtract
)

type alterOp = kmsg.IncrementalAlterConfigsRequestResourceConfig

func alterOf(op kmsg.IncrementalAlterConfigOp, name, value string) alterOp {
	return alterOp{Name: name, Op: op, Value: &value}
}

func alterSet(name, value string) alterOp { return alterOf(opSet, name, value) }

func alterRequest(kind kmsg.ConfigResourceType, name string, ops ...alterOp) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: ops}}
	return req
}
