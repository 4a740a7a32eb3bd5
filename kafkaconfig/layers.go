package kafkaconfig

import "strconv"

// Layers are the values below a topic's own: of this broker, of the cluster's default and those given at start. Maps may be
// nil and are only read.
type Layers struct {
	Broker         map[string]string // dynamic, of this broker
	ClusterDefault map[string]string // dynamic, of all brokers
	Static         map[string]string // given at start
}

// setting is one place a value was found.
type setting struct {
	name   string
	value  string
	scale  int64
	source Source
}

// settings lists where the synonyms are set, the place that wins first; Kafka's own defaults come last.
func (l Layers) settings(synonyms []Synonym) []setting {
	var found []setting
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{l.Broker, SourceDynamicBroker}, {l.ClusterDefault, SourceDynamicDefault}, {l.Static, SourceStatic}} {
		for _, s := range synonyms {
			if value, ok := layer.values[s.Name]; ok {
				found = append(found, setting{s.Name, value, s.Scale, layer.source})
			}
		}
	}
	for _, s := range synonyms {
		if k, ok := Lookup(BrokerScope, s.Name); ok && k.Default != nil {
			found = append(found, setting{s.Name, *k.Default, s.Scale, SourceDefault})
		}
	}
	return found
}

// self is the synonym list of a key that has no other name.
func (k *Key) self() []Synonym {
	if k.Synonyms != nil {
		return k.Synonyms
	}
	return []Synonym{{k.Name, asIs}}
}

// effective parses the value that holds for k: the topic's own when k is a topic key, then the layers'. A stored value that
// does not parse counts as absent, as in Kafka: it was refused when it was set, so it can only be left from another version.
func (l Layers) effective(k *Key, topic map[string]string) parsed {
	if value, ok := topic[k.Name]; ok && k.Scope == TopicScope {
		if v, err := k.parse(value); err == nil {
			return v
		}
	}
	if k.Scope == BrokerScope || k.Synonyms != nil {
		for _, s := range l.settings(k.self()) {
			b, ok := Lookup(BrokerScope, s.name)
			if !ok {
				continue
			}
			if v, err := b.parse(s.value); err == nil {
				return v.times(s.scale)
			}
		}
	}
	if k.Default == nil {
		return parsed{}
	}
	v, err := k.parse(*k.Default)
	if err != nil {
		panic("kafkaconfig: the default of " + k.Name + " does not parse") // a test parses them all
	}
	return v
}

// times changes the unit; negative values mean "no limit" in every unit.
func (v parsed) times(scale int64) parsed {
	if scale == asIs || v.int < 0 {
		return v
	}
	v.int *= scale
	v.number = float64(v.int)
	v.text = decimal(v.int)
	return v
}

func (l Layers) topicValue(name string, topic map[string]string) parsed {
	return l.effective(topicKeys.byName[name], topic)
}

func (l Layers) topicInt(name string, topic map[string]string) int64 {
	return l.topicValue(name, topic).int
}

func (l Layers) brokerValue(name string) parsed { return l.effective(brokerKeys.byName[name], nil) }

func (l Layers) brokerInt(name string) int64 { return l.brokerValue(name).int }

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
