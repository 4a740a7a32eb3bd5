package kafkaconfig

import (
	"maps"
	"slices"
	"strings"
)

// Kind tells which Kafka error answers a refused change.
type Kind int8

// The kinds of refusal.
const (
	InvalidConfig  Kind = iota // INVALID_CONFIG (40)
	InvalidRequest             // INVALID_REQUEST (42)
	UnknownOp                  // UNKNOWN_SERVER_ERROR (-1), as Kafka answers an operation it does not know (M10)
)

// Error is a refused setting; Message is for the client, in Kafka's words where Kafka has some.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// ValidateTopic checks one topic override. A nil value is refused, as CreateTopics does (M4). The error is an *Error.
func ValidateTopic(name string, value *string) error {
	if value == nil {
		return &Error{InvalidConfig, "Null value not supported for topic configs: " + name}
	}
	k, ok := Lookup(TopicScope, name)
	if !ok {
		return &Error{InvalidConfig, "Unknown topic config name: " + name}
	}
	_, err := k.parse(*value)
	return err
}

// ValidateTopicSet checks all overrides of a topic, each for itself and then together with the values of the layers below
// (M9). The error is an *Error.
func ValidateTopicSet(overrides map[string]string, l Layers) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		value := overrides[name]
		if err := ValidateTopic(name, &value); err != nil {
			return err
		}
	}
	return validateTogether(overrides, l)
}

// validateTogether holds what Kafka's LogConfig.validateValues holds across keys.
func validateTogether(overrides map[string]string, l Layers) error {
	low, high := l.topicInt("min.compaction.lag.ms", overrides), l.topicInt("max.compaction.lag.ms", overrides)
	if low > high {
		return &Error{InvalidConfig, "conflict topic config setting min.compaction.lag.ms (" + decimal(low) +
			") > max.compaction.lag.ms (" + decimal(high) + ")"}
	}
	return nil
}

// ValidateStatic checks one broker key given at start. Keys that Kafka retired are accepted, unknown ones are refused with the
// nearest match; the caller says where the key was set. The error is an *Error.
func ValidateStatic(name, value string) error {
	if Retired(name) {
		return nil
	}
	k, ok := Lookup(BrokerScope, baseName(name))
	if !ok {
		message := "unknown Kafka setting " + name
		if near := Suggest(name, BrokerScope); near != "" {
			message += "; did you mean " + near + "?"
		}
		return &Error{InvalidConfig, message}
	}
	_, err := k.parse(value)
	return err
}

// ValidateBroker checks the dynamic settings of one broker, or of the cluster's default, as they will be after a change.
// Only changed keys are held to be dynamic, as Kafka does; keys that Kafka does not know are accepted (M10). The error is an
// *Error.
func ValidateBroker(clusterDefault bool, changed, after map[string]string) error {
	var static, unprefixed, perBroker []string
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		k, ok := Lookup(BrokerScope, baseName(name))
		switch {
		case !ok:
		case k.Update == ReadOnly:
			static = append(static, name)
		case perListener[name]:
			unprefixed = append(unprefixed, name)
		case k.Update == PerBroker && clusterDefault, name != baseName(name) && clusterDefault:
			perBroker = append(perBroker, name)
		}
	}
	if static != nil {
		return &Error{InvalidRequest, "Cannot update these configs dynamically: [" + strings.Join(static, ", ") + "]"}
	}
	if unprefixed != nil {
		return &Error{InvalidRequest, "These security configs can be dynamically updated only per-listener using the listener prefix: [" +
			strings.Join(unprefixed, ", ") + "]"}
	}
	if perBroker != nil {
		return &Error{InvalidRequest, "Cannot update these configs at default cluster level, broker id must be specified: [" + strings.Join(perBroker, ", ") + "]"}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if k, ok := Lookup(BrokerScope, baseName(name)); ok {
			if _, err := k.parse(after[name]); err != nil {
				return &Error{InvalidRequest, err.Error()}
			}
		}
	}
	return nil
}

// perListener are the keys that Kafka changes at run time only under a listener's prefix.
var perListener = map[string]bool{
	"ssl.key.password": true, "ssl.keystore.certificate.chain": true, "ssl.keystore.key": true, "ssl.keystore.location": true,
	"ssl.keystore.password": true, "ssl.keystore.type": true, "ssl.truststore.certificates": true,
	"ssl.truststore.location": true, "ssl.truststore.password": true, "ssl.truststore.type": true,
}

// baseName takes the listener away from listener.name.<listener>.<key>.
func baseName(name string) string {
	if rest, ok := strings.CutPrefix(name, "listener.name."); ok {
		if _, key, ok := strings.Cut(rest, "."); ok {
			return key
		}
	}
	return name
}
