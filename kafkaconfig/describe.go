package kafkaconfig

import (
	"cmp"
	"maps"
	"slices"
)

// Entry is one line of a DescribeConfigs answer.
type Entry struct {
	Name      string
	Value     *string // nil: no value, or one that must not be shown
	Source    Source
	Type      Type
	ReadOnly  bool
	Sensitive bool
	Synonyms  []EntrySynonym // every place the value is set, the one that holds first
	Doc       string
}

// EntrySynonym is a place where a value is set.
type EntrySynonym struct {
	Name   string
	Value  *string
	Source Source
}

// DescribeTopic answers for a topic: all keys by name, or only those of names when it is not nil.
func DescribeTopic(topic map[string]string, l Layers, names []string) []Entry {
	var entries []Entry
	for _, k := range TopicKeys() {
		own, set := topic[k.Name]
		if k.Internal && !set || !wanted(names, k.Name) {
			continue
		}
		e := k.entry(l)
		e.ReadOnly = false
		if set {
			e.Value, e.Source = &own, SourceTopic
			e.Synonyms = slices.Insert(e.Synonyms, 0, EntrySynonym{k.Name, &own, SourceTopic})
		}
		entries = append(entries, e)
	}
	return entries
}

// DescribeBroker answers for one broker: all keys that Kafka knows and all that are set, or only those of names when it is
// not nil.
func DescribeBroker(l Layers, names []string) []Entry {
	var entries []Entry
	for _, k := range BrokerKeys() {
		if wanted(names, k.Name) && (!k.Internal || l.set(k.Name)) {
			entries = append(entries, k.entry(l))
		}
	}
	for _, name := range l.unknown() {
		if wanted(names, name) {
			entries = append(entries, unknownKey(name).entry(l))
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries
}

// DescribeClusterDefault answers for the broker resource without a name: only the dynamic defaults that are set.
func DescribeClusterDefault(clusterDefault map[string]string, names []string) []Entry {
	l := Layers{ClusterDefault: clusterDefault}
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(clusterDefault)) {
		if !wanted(names, name) {
			continue
		}
		k, ok := Lookup(BrokerScope, name)
		if !ok {
			k = unknownKey(name)
		}
		entries = append(entries, k.entry(l))
	}
	return entries
}

func wanted(names []string, name string) bool { return names == nil || slices.Contains(names, name) }

// unknownKey stands for a name that Kafka does not know: perhaps of a plug-in, so its value is hidden.
func unknownKey(name string) *Key {
	return &Key{Name: name, Scope: BrokerScope, Type: Password, Update: PerBroker, Reason: "unknown to Kafka"}
}

func (l Layers) set(name string) bool {
	_, broker := l.Broker[name]
	_, cluster := l.ClusterDefault[name]
	_, static := l.Static[name]
	return broker || cluster || static
}

func (l Layers) unknown() []string {
	names := map[string]bool{}
	for _, layer := range []map[string]string{l.Broker, l.ClusterDefault, l.Static} {
		for name := range layer {
			if _, ok := Lookup(BrokerScope, name); !ok {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// entry is what the layers below a topic say about k.
func (k *Key) entry(l Layers) Entry {
	e := Entry{
		Name: k.Name, Source: SourceDefault, Type: k.Type, ReadOnly: k.Update == ReadOnly, Sensitive: k.Sensitive(), Doc: k.Doc,
	}
	if !k.Used() {
		e.Doc = "No meaning here: " + k.Reason + ". " + k.Doc
	}
	e.Value = k.Default
	if k.Scope == TopicScope && k.Synonyms == nil {
		return e
	}
	found := l.settings(k.self())
	if len(found) == 0 {
		return e
	}
	for _, s := range found {
		e.Synonyms = append(e.Synonyms, EntrySynonym{s.name, k.show(s.value), s.source})
	}
	e.Source = found[0].source
	value := found[0].value
	if found[0].scale != asIs {
		value = l.effective(k, nil).text
	}
	e.Value = k.show(value)
	return e
}

func (k *Key) show(value string) *string {
	if k.Sensitive() {
		return nil
	}
	return &value
}
