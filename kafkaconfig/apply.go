package kafkaconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OpKind is an operation of IncrementalAlterConfigs (M10).
type OpKind int8

// The operations of IncrementalAlterConfigs.
const (
	Set      OpKind = 0
	Delete   OpKind = 1
	Append   OpKind = 2
	Subtract OpKind = 3
)

// An Op changes one key. Value is nil only for Delete.
type Op struct {
	Name  string
	Kind  OpKind
	Value *string
}

// Apply carries out the changes of one resource, all or none (M10): it returns the new overrides, and leaves current as it
// is. It does not judge values: follow it with ValidateTopicSet or ValidateBroker. The error is an *Error.
func Apply(s Scope, ops []Op, current map[string]string) (map[string]string, error) {
	if err := checkOps(ops); err != nil {
		return nil, err
	}
	next := maps.Clone(current)
	if next == nil {
		next = map[string]string{}
	}
	for _, op := range ops {
		switch op.Kind {
		case Set:
			next[op.Name] = *op.Value
		case Delete:
			delete(next, op.Name)
		case Append, Subtract:
			value, err := changeList(s, op, current)
			if err != nil {
				return nil, err
			}
			next[op.Name] = value
		}
	}
	return next, nil
}

func checkOps(ops []Op) error {
	seen := make(map[string]bool, len(ops))
	var nulls []string
	for _, op := range ops {
		if seen[op.Name] {
			return &Error{InvalidRequest, "Error due to duplicate config keys"}
		}
		seen[op.Name] = true
		if op.Kind != Delete && op.Value == nil {
			nulls = append(nulls, op.Name)
		}
	}
	if nulls != nil {
		return &Error{InvalidRequest, "Null value not supported for : " + strings.Join(nulls, ", ")}
	}
	for _, op := range ops {
		if op.Kind < Set || op.Kind > Subtract {
			return &Error{UnknownOp, fmt.Sprintf("unknown operation %d for %s", op.Kind, op.Name)}
		}
	}
	return nil
}

// changeList appends entries that are not there yet, or takes entries away. An unset key starts from its default.
func changeList(s Scope, op Op, current map[string]string) (string, error) {
	k, ok := Lookup(s, op.Name)
	if !ok || k.Type != List {
		verb := "APPEND"
		if op.Kind == Subtract {
			verb = "SUBTRACT"
		}
		return "", &Error{InvalidConfig, fmt.Sprintf("Can't %s to key %s because its type is not LIST.", verb, op.Name)}
	}
	value, ok := current[op.Name]
	if !ok && k.Default != nil {
		value = *k.Default
	}
	list := slices.DeleteFunc(strings.Split(value, ","), func(s string) bool { return s == "" })
	times := make(map[string]int, len(list)) // how often each entry is in the list, or is still to be taken away
	if op.Kind == Append {
		for _, entry := range list {
			times[entry]++
		}
	}
	for entry := range strings.SplitSeq(*op.Value, ",") {
		if times[entry]++; op.Kind == Append && times[entry] == 1 {
			list = append(list, entry)
		}
	}
	if op.Kind == Subtract {
		list = slices.DeleteFunc(list, func(entry string) bool {
			times[entry]--
			return times[entry] >= 0
		})
	}
	return strings.Join(list, ","), nil
}
