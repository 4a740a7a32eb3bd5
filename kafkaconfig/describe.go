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

// DescribeTopic answers for a topic: all keys by name, or only those of names when it is not nil. Values are in Kafka's
// normal form: "+5" was given, "5" is shown.
func DescribeTopic(topic map[string]string, l Layers, names []string) []Entry {
	asked := namesAsked(names)
	var entries []Entry
	for _, k := range TopicKeys() {
		_, set := topic[k.Name]
		if k.Internal && !set || !asked.wants(k.Name) {
			continue
		}
		e := k.entry()
		v := k.show(l.effective(k, topic).text)
		if set || k.Default != nil {
			e.Value = v
		}
		if k.Synonyms != nil {
			e.addSynonyms(k, l, k.Synonyms[0].Name)
		}
		if set {
			e.Source = SourceTopic
			e.Synonyms = slices.Insert(e.Synonyms, 0, EntrySynonym{k.Name, v, SourceTopic})
		}
		entries = append(entries, e)
	}
	return entries
}

// DescribeCreated answers for a topic in a CreateTopics response (KIP-525): every value exactly as it was given, and its
// source; no synonyms.
func DescribeCreated(topic map[string]string, l Layers) []Entry {
	var entries []Entry
	for _, k := range TopicKeys() {
		value, set := topic[k.Name]
		if k.Internal && !set {
			continue
		}
		e := k.entry()
		if set {
			e.Value, e.Source = k.show(value), SourceTopic
		} else if found := l.settings(k.Synonyms); len(found) > 0 {
			e.Source, e.Value = found[0].source, k.show(found[0].value)
			if found[0].scale != asIs {
				e.Value = k.show(l.effective(k, nil).text)
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// DescribeBroker answers for one broker: all keys that Kafka knows and all that are set, or only those of names when it is
// not nil.
func DescribeBroker(l Layers, names []string) []Entry {
	asked := namesAsked(names)
	var entries []Entry
	for _, k := range BrokerKeys() {
		if !asked.wants(k.Name) || k.Internal && !l.set(k.Name) {
			continue
		}
		e := k.entry()
		e.addSynonyms(k, l, k.Name)
		if len(e.Synonyms) > 0 {
			e.Value = k.show(l.own(k).text)
		}
		entries = append(entries, e)
	}
	for _, name := range l.unknown() {
		if asked.wants(name) {
			entries = append(entries, unknownEntry(name, l))
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries
}

// DescribeClusterDefault answers for the broker resource without a name: only the dynamic defaults that are set, as they
// were given.
func DescribeClusterDefault(clusterDefault map[string]string, names []string) []Entry {
	asked := namesAsked(names)
	l := Layers{ClusterDefault: clusterDefault}
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(clusterDefault)) {
		if !asked.wants(name) {
			continue
		}
		k, ok := Lookup(BrokerScope, name)
		if !ok {
			entries = append(entries, unknownEntry(name, l))
			continue
		}
		e := k.entry()
		e.Value, e.Source = k.show(clusterDefault[name]), SourceDynamicDefault
		e.Synonyms = []EntrySynonym{{name, e.Value, SourceDynamicDefault}}
		entries = append(entries, e)
	}
	return entries
}

// nameSet is the names that were asked for; nil means all.
type nameSet map[string]bool

func namesAsked(names []string) nameSet {
	if names == nil {
		return nil
	}
	set := make(nameSet, min(len(names), 1<<10))
	for _, name := range names {
		set[name] = true
	}
	return set
}

func (s nameSet) wants(name string) bool { return s == nil || s[name] }

// entry is k with its default.
func (k *Key) entry() Entry {
	e := Entry{Name: k.Name, Value: k.Default, Source: SourceDefault, Type: k.Type, Sensitive: k.Sensitive(), Doc: k.Doc}
	e.ReadOnly = k.Scope == BrokerScope && k.Update == ReadOnly
	if !k.Used() {
		e.Doc = "No meaning here: " + k.Reason + ". " + k.Doc
	}
	return e
}

// addSynonyms lists where the key is set, from the first place that has the main name on: Kafka leaves out what comes
// before, so retention.ms that follows from log.retention.hours has no synonyms and is called a default.
func (e *Entry) addSynonyms(k *Key, l Layers, mainName string) {
	found := l.settings(k.self())
	at := slices.IndexFunc(found, func(s setting) bool { return s.name == mainName })
	if at < 0 {
		return
	}
	e.Source = found[at].source
	for _, s := range found[at:] {
		e.Synonyms = append(e.Synonyms, EntrySynonym{s.name, k.show(s.value), s.source})
	}
}

// own is the value of a broker key under its own name.
func (l Layers) own(k *Key) parsed {
	for _, s := range l.settings([]Synonym{{k.Name, asIs}}) {
		if v, err := k.parse(s.value); err == nil {
			return v
		}
	}
	return parsed{}
}

// unknownEntry shows a name that Kafka does not know, as Kafka does: it may belong to a plug-in, so its value is hidden.
func unknownEntry(name string, l Layers) Entry {
	e := Entry{Name: name, ReadOnly: true, Sensitive: true, Doc: "unknown to Kafka"}
	for _, s := range l.settings([]Synonym{{name, asIs}}) {
		e.Synonyms = append(e.Synonyms, EntrySynonym{name, nil, s.source})
	}
	e.Source = e.Synonyms[0].Source
	return e
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

func (k *Key) show(value string) *string {
	if k.Sensitive() {
		return nil
	}
	return &value
}
