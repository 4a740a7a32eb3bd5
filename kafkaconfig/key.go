// Package kafkaconfig is Kafka 4.3's topic and broker settings as data: what each key is called, what it may hold, where its
// value comes from and what it means here.
//
// Shape: tables of keys (table_*.go), checks that refuse what Kafka refuses, and pure functions that resolve layers of
// values, answer DescribeConfigs and carry out IncrementalAlterConfigs. Nothing here does I/O; all functions are safe for
// concurrent use.
//
// Invariants: a stored value is kept and shown as it was given (M8); every key of Kafka's LogConfig and KafkaConfig is
// known; a key without meaning here says why.
package kafkaconfig

import (
	"slices"
	"strings"
)

// Type is a value's type, numbered as DescribeConfigs does (M9).
type Type int8

// The types of DescribeConfigs.
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

// Update says how a broker key may change at run time.
type Update int8

// The update modes of Kafka's documentation.
const (
	ReadOnly    Update = iota // only at start
	PerBroker                 // on one broker
	ClusterWide               // on one broker or as the cluster's default
)

// Source says which layer a value came from, numbered as DescribeConfigs does (M9).
type Source int8

// The sources of DescribeConfigs, the nearest to the topic first.
const (
	SourceTopic          Source = 1
	SourceDynamicBroker  Source = 2
	SourceDynamicDefault Source = 3
	SourceStatic         Source = 4
	SourceDefault        Source = 5
)

// Scope tells topic keys from broker keys; some names are both.
type Scope int8

// The two kinds of resource whose keys are known here.
const (
	TopicScope Scope = iota
	BrokerScope
)

// A Synonym is a broker key that stands in for another key; its value times Scale is in that key's unit.
type Synonym struct {
	Name  string
	Scale int64
}

// A Key is one setting. Treat it as read-only: its fields are shared.
type Key struct {
	Name     string
	Scope    Scope
	Type     Type
	Default  *string // nil: null, or Kafka insists on a value
	Update   Update  // of broker keys; topic keys can always change
	Internal bool    // left out of DescribeConfigs unless set
	Reason   string  // why the key has no meaning here; empty when it has
	Doc      string
	Synonyms []Synonym // broker keys, the one that wins first; for broker keys only when there is more than itself

	check check
}

// Used reports whether the key means something here. All other keys are accepted, stored and shown.
func (k *Key) Used() bool { return k.Reason == "" }

// Sensitive reports whether the value must not be shown.
func (k *Key) Sensitive() bool { return k.Type == Password }

// TopicKeys returns all topic keys by name.
func TopicKeys() []*Key { return topicKeys.sorted }

// BrokerKeys returns all broker keys by name.
func BrokerKeys() []*Key { return brokerKeys.sorted }

// Lookup finds a key; ok is false when Kafka 4.3 does not know it.
func Lookup(s Scope, name string) (k *Key, ok bool) {
	if s == TopicScope {
		k, ok = topicKeys.byName[name]
	} else {
		k, ok = brokerKeys.byName[name]
	}
	return k, ok
}

// null marks a row whose default is null, required one that Kafka wants set. Neither can be a default's text.
const (
	null     = "\x00null"
	required = "\x00required"
)

// Factors of synonyms in other units than their key's milliseconds.
const (
	asIs    = 1
	minutes = 60 * 1000
	hours   = 60 * minutes
)

// row is a Key as the tables write it.
type row struct {
	name   string
	typ    Type
	def    string
	check  check
	update Update
	reason string
	doc    string
}

type keyIndex struct {
	byName map[string]*Key
	sorted []*Key
}

var (
	topicKeys  = index(TopicScope, topicSynonyms, topicTable)
	brokerKeys = index(BrokerScope, brokerSynonyms(), brokerTable, storageTable, securityTable)
)

func index(s Scope, synonyms map[string][]Synonym, tables ...[]row) keyIndex {
	x := keyIndex{byName: map[string]*Key{}}
	for _, r := range slices.Concat(tables...) {
		k := &Key{
			Name: r.name, Scope: s, Type: r.typ, Update: r.update, Internal: internalKeys[r.name],
			Reason: r.reason, Doc: r.doc, Synonyms: synonyms[r.name], check: r.check,
		}
		if r.def != null && r.def != required {
			k.Default = &r.def
		}
		x.byName[k.Name] = k
		x.sorted = append(x.sorted, k)
	}
	slices.SortFunc(x.sorted, func(a, b *Key) int { return strings.Compare(a.Name, b.Name) })
	return x
}

// brokerSynonyms derives the broker keys that stand for one another: those that share a topic key, such as
// log.retention.ms, .minutes and .hours. Each of a group shows the whole group.
func brokerSynonyms() map[string][]Synonym {
	m := map[string][]Synonym{}
	for _, group := range topicSynonyms {
		if len(group) < 2 {
			continue
		}
		for _, s := range group {
			m[s.Name] = group
		}
	}
	// Kafka reads log.flush.scheduler.interval.ms for log.flush.interval.ms, but not the other way round.
	delete(m, "log.flush.scheduler.interval.ms")
	return m
}
