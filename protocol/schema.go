package protocol

import (
	"fmt"
	"strconv"
	"strings"
)

// schemas says what bytes a request body is made of, for the versions that are served. A field is name:type or
// name:type@versions, where versions is "3+" or "2-4" (absent: all). Types are i8, i16, i32, i64, uuid, string and bytes
// (nullable or not: a null has no bytes), "[i32]" or "[string]" for arrays of those, "[ fields ]" for arrays of structures and
// "?{ fields }" for a nullable structure. Tagged fields are skimmed without a schema, except for "#1{ fields }": tag 1 is a
// structure, with tagged fields of its own.
var schemas = map[Key]string{
	KeyProduce: `TransactionID:string Acks:i16 TimeoutMillis:i32
		Topics:[ Topic:string Partitions:[ Partition:i32 Records:bytes ] ]`,
	KeyFetch: `ReplicaID:i32@4-14 MaxWaitMillis:i32 MinBytes:i32 MaxBytes:i32 IsolationLevel:i8
		SessionID:i32@7+ SessionEpoch:i32@7+
		Topics:[ Topic:string@4-12 TopicID:uuid@13+
			Partitions:[ Partition:i32 CurrentLeaderEpoch:i32@9+ FetchOffset:i64 LastFetchedEpoch:i32@12+
				LogStartOffset:i64@5+ PartitionMaxBytes:i32 ] ]
		ForgottenTopics:[ Topic:string@7-12 TopicID:uuid@13+ Partitions:[i32] ]@7+ Rack:string@11+
		ReplicaState:#1{ ID:i32 Epoch:i64 }`,
	KeyListOffsets: `ReplicaID:i32 IsolationLevel:i8@2+
		Topics:[ Topic:string Partitions:[ Partition:i32 CurrentLeaderEpoch:i32@4+ Timestamp:i64 ] ]
		TimeoutMillis:i32@10+`,
	KeyMetadata: `Topics:[ TopicID:uuid@10+ Topic:string ] AllowAutoTopicCreation:i8@4+
		IncludeClusterAuthorizedOperations:i8@8-10 IncludeTopicAuthorizedOperations:i8@8+`,
	KeyOffsetCommit: `Group:string Generation:i32 MemberID:string InstanceID:string@7+ RetentionTimeMillis:i64@2-4
		Topics:[ Topic:string@2-9 TopicID:uuid@10+
			Partitions:[ Partition:i32 Offset:i64 LeaderEpoch:i32@6+ Metadata:string ] ]`,
	KeyOffsetFetch: `Group:string@1-7 Topics:[ Topic:string Partitions:[i32] ]@1-7
		Groups:[ Group:string MemberID:string@9+ MemberEpoch:i32@9+
			Topics:[ Topic:string@8-9 TopicID:uuid@10+ Partitions:[i32] ] ]@8+
		RequireStable:i8@7+`,
	KeyFindCoordinator: `CoordinatorKey:string@0-3 CoordinatorType:i8@1+ CoordinatorKeys:[string]@4+`,
	KeyJoinGroup: `Group:string SessionTimeoutMillis:i32 RebalanceTimeoutMillis:i32@1+ MemberID:string
		InstanceID:string@5+ ProtocolType:string Protocols:[ Name:string Metadata:bytes ] Reason:string@8+`,
	KeyHeartbeat: `Group:string Generation:i32 MemberID:string InstanceID:string@3+`,
	KeyLeaveGroup: `Group:string MemberID:string@0-2
		Members:[ MemberID:string InstanceID:string Reason:string@5+ ]@3+`,
	KeySyncGroup: `Group:string Generation:i32 MemberID:string InstanceID:string@3+ ProtocolType:string@5+
		Protocol:string@5+ GroupAssignment:[ MemberID:string MemberAssignment:bytes ]`,
	KeyDescribeGroups: `Groups:[string] IncludeAuthorizedOperations:i8@3+`,
	KeyListGroups:     `StatesFilter:[string]@4+ TypesFilter:[string]@5+`,
	KeySaslHandshake:  `Mechanism:string`,
	KeyAPIVersions:    `ClientSoftwareName:string@3+ ClientSoftwareVersion:string@3+`,
	KeyCreateTopics: `Topics:[ Topic:string NumPartitions:i32 ReplicationFactor:i16
			ReplicaAssignment:[ Partition:i32 Replicas:[i32] ] Configs:[ Name:string Value:string ] ]
		TimeoutMillis:i32 ValidateOnly:i8@1+`,
	KeyDeleteTopics: `TopicNames:[string]@1-5 Topics:[ Topic:string TopicID:uuid ]@6+ TimeoutMillis:i32`,
	KeyDeleteRecords: `Topics:[ Topic:string Partitions:[ Partition:i32 Offset:i64 ] ]
		TimeoutMillis:i32`,
	KeyInitProducerID: `TransactionalID:string TransactionTimeoutMillis:i32 ProducerID:i64@3+ ProducerEpoch:i16@3+`,
	KeyOffsetForLeaderEpoch: `ReplicaID:i32@3+
		Topics:[ Topic:string Partitions:[ Partition:i32 CurrentLeaderEpoch:i32 LeaderEpoch:i32 ] ]`,
	KeyDescribeACLs: `ResourceType:i8 ResourceName:string ResourcePatternType:i8 Principal:string Host:string
		Operation:i8 PermissionType:i8`,
	KeyCreateACLs: `Creations:[ ResourceType:i8 ResourceName:string ResourcePatternType:i8 Principal:string Host:string
			Operation:i8 PermissionType:i8 ]`,
	KeyDeleteACLs: `Filters:[ ResourceType:i8 ResourceName:string ResourcePatternType:i8 Principal:string Host:string
			Operation:i8 PermissionType:i8 ]`,
	KeyDescribeConfigs: `Resources:[ ResourceType:i8 ResourceName:string ConfigNames:[string] ]
		IncludeSynonyms:i8 IncludeDocumentation:i8@3+`,
	KeyDescribeLogDirs:  `Topics:[ Topic:string Partitions:[i32] ]`,
	KeySaslAuthenticate: `SASLAuthBytes:bytes`,
	KeyCreatePartitions: `Topics:[ Topic:string Count:i32 Assignment:[ Replicas:[i32] ] ]
		TimeoutMillis:i32 ValidateOnly:i8`,
	KeyDeleteGroups: `Groups:[string]`,
	KeyElectLeaders: `ElectionType:i8@1+ Topics:[ Topic:string Partitions:[i32] ] TimeoutMillis:i32`,
	KeyIncrementalAlterConfigs: `Resources:[ ResourceType:i8 ResourceName:string
			Configs:[ Name:string Op:i8 Value:string ] ] ValidateOnly:i8`,
	KeyAlterPartitionReassignments: `TimeoutMillis:i32 AllowReplicationFactorChange:i8@1+
		Topics:[ Topic:string Partitions:[ Partition:i32 Replicas:[i32] ] ]`,
	KeyListPartitionReassignments: `TimeoutMillis:i32 Topics:[ Topic:string Partitions:[i32] ]`,
	KeyOffsetDelete:               `Group:string Topics:[ Topic:string Partitions:[ Partition:i32 ] ]`,
	KeyDescribeCluster: `IncludeClusterAuthorizedOperations:i8 EndpointType:i8@1+
		IncludeFencedBrokers:i8@2+`,
	KeyDescribeTopicPartitions: `Topics:[ Topic:string ] ResponsePartitionLimit:i32
		Cursor:?{ Topic:string Partition:i32 }`,
}

type kind uint8

const (
	kindFixed kind = iota
	kindString
	kindBytes
	kindArray
	kindNullable
)

// A field is one part of a body at one version.
type field struct {
	kind kind
	// size is the encoded size of a kindFixed.
	size int
	// elem is what a kindArray or kindNullable holds.
	elem *structure
}

// A structure is a run of fields at one version, or the single element of an array of primitives.
type structure struct {
	fields []field
	// tag1 is what tagged field 1 holds, if that is a structure.
	tag1 *structure
	// bare is set for an array's primitive elements, which have no tagged fields of their own.
	bare bool
	// min is the size of the smallest encoding.
	min int
	// mem is what the decoded form takes before what its arrays hold. It counts the fields of every version, as kmsg's
	// structures have them all.
	mem int
}

// Sizes of decoded parts in memory: a string or a pointer to one with what it points to, a slice, a map of tags.
const (
	memString = 24
	memSlice  = 24
	memTags   = 8
)

// plans holds, for each row of apis, the structure at each version from Min on.
var plans = func() [][]*structure {
	out := make([][]*structure, len(apis))
	for i, a := range apis {
		for v := a.Min; v <= a.Max; v++ {
			p := schemaParser{tokens: strings.Fields(schemas[a.Key]), version: v, flexible: v >= a.flexible}
			out[i] = append(out[i], p.structure(""))
		}
	}
	return out
}()

// A schemaParser reads schemas, which are constants: it panics at start-up where one is wrong.
type schemaParser struct {
	tokens   []string
	version  int16
	flexible bool
}

// structure reads fields up to the token that starts with closer, which it leaves.
func (p *schemaParser) structure(closer string) *structure {
	s := &structure{mem: memTags}
	if p.flexible {
		s.min = 1
	}
	for len(p.tokens) > 0 && (closer == "" || !strings.HasPrefix(p.tokens[0], closer)) {
		if strings.HasSuffix(p.tokens[0], ":#1{") {
			p.tokens = p.tokens[1:]
			s.tag1 = p.structure("}")
			p.tokens = p.tokens[1:]
			s.mem += s.tag1.mem
			continue
		}
		f, min, mem, ok := p.field()
		s.mem += (mem + 7) &^ 7
		if ok {
			s.fields = append(s.fields, f)
			s.min += min
		}
	}
	return s
}

// field reads one field and says whether this version has it.
func (p *schemaParser) field() (f field, min, mem int, ok bool) {
	token := p.tokens[0]
	p.tokens = p.tokens[1:]
	_, typ, found := strings.Cut(token, ":")
	if !found {
		panic(fmt.Sprintf("schema: %q is no field", token))
	}
	typ, versions, _ := strings.Cut(typ, "@")
	switch typ {
	case "[":
		f = field{kind: kindArray, elem: p.structure("]")}
		versions = strings.TrimPrefix(strings.TrimPrefix(p.tokens[0], "]"), "@")
		p.tokens = p.tokens[1:]
		min, mem = p.lengthSize(4), memSlice
	case "?{":
		f = field{kind: kindNullable, elem: p.structure("}")}
		p.tokens = p.tokens[1:]
		min, mem = 1, 8
	default:
		f, min, mem = p.primitive(typ)
	}
	return f, min, mem, p.has(versions)
}

func (p *schemaParser) primitive(typ string) (f field, min, mem int) {
	if inner, ok := strings.CutPrefix(typ, "["); ok {
		e, emin, emem := p.primitive(strings.TrimSuffix(inner, "]"))
		f = field{kind: kindArray, elem: &structure{fields: []field{e}, bare: true, min: emin, mem: emem}}
		return f, p.lengthSize(4), memSlice
	}
	switch typ {
	case "string":
		return field{kind: kindString}, p.lengthSize(2), memString
	case "bytes":
		return field{kind: kindBytes}, p.lengthSize(4), memSlice
	}
	size, ok := map[string]int{"i8": 1, "i16": 2, "i32": 4, "i64": 8, "uuid": 16}[typ]
	if !ok {
		panic(fmt.Sprintf("schema: unknown type %q", typ))
	}
	return field{kind: kindFixed, size: size}, size, size
}

// lengthSize is the least size of a length: a varint in flexible versions.
func (p *schemaParser) lengthSize(classic int) int {
	if p.flexible {
		return 1
	}
	return classic
}

func (p *schemaParser) has(versions string) bool {
	if versions == "" {
		return true
	}
	lo, hi, ranged := strings.Cut(strings.TrimSuffix(versions, "+"), "-")
	from, err := strconv.ParseInt(lo, 10, 16)
	if err != nil {
		panic(fmt.Sprintf("schema: versions %q", versions))
	}
	if !ranged {
		return int64(p.version) >= from
	}
	to, err := strconv.ParseInt(hi, 10, 16)
	if err != nil {
		panic(fmt.Sprintf("schema: versions %q", versions))
	}
	return int64(p.version) >= from && int64(p.version) <= to
}
