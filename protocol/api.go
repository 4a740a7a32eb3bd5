package protocol

import (
	"fmt"
	"sort"
	"strings"
)

// A Key names one kind of request.
type Key int16

// The keys that are served.
const (
	KeyProduce                     Key = 0
	KeyFetch                       Key = 1
	KeyListOffsets                 Key = 2
	KeyMetadata                    Key = 3
	KeyOffsetCommit                Key = 8
	KeyOffsetFetch                 Key = 9
	KeyFindCoordinator             Key = 10
	KeyJoinGroup                   Key = 11
	KeyHeartbeat                   Key = 12
	KeyLeaveGroup                  Key = 13
	KeySyncGroup                   Key = 14
	KeyDescribeGroups              Key = 15
	KeyListGroups                  Key = 16
	KeySaslHandshake               Key = 17
	KeyAPIVersions                 Key = 18
	KeyCreateTopics                Key = 19
	KeyDeleteTopics                Key = 20
	KeyDeleteRecords               Key = 21
	KeyInitProducerID              Key = 22
	KeyOffsetForLeaderEpoch        Key = 23
	KeyDescribeACLs                Key = 29
	KeyCreateACLs                  Key = 30
	KeyDeleteACLs                  Key = 31
	KeyDescribeConfigs             Key = 32
	KeyDescribeLogDirs             Key = 35
	KeySaslAuthenticate            Key = 36
	KeyCreatePartitions            Key = 37
	KeyDeleteGroups                Key = 42
	KeyElectLeaders                Key = 43
	KeyIncrementalAlterConfigs     Key = 44
	KeyAlterPartitionReassignments Key = 45
	KeyListPartitionReassignments  Key = 46
	KeyOffsetDelete                Key = 47
	KeyDescribeCluster             Key = 60
	KeyDescribeTopicPartitions     Key = 75
)

// An API is one row of the table of served requests.
type API struct {
	Key  Key
	Name string
	// Min and Max bound the versions that are served.
	Min, Max int16
	// AdvertisedMin is what ApiVersions says instead of Min. It is lower for Produce alone, or older librdkafka would
	// stop compressing without a word (KAFKA-18659).
	AdvertisedMin int16
}

// neverFlexible is above every version: requests whose first flexible version it is have none.
const neverFlexible int16 = 1 << 14

// apis is ordered by key. The last number is the first flexible version (KIP-482).
var apis = []struct {
	API
	flexible int16
}{
	{API{KeyProduce, "Produce", 3, 11, 0}, 9},
	{API{KeyFetch, "Fetch", 4, 16, 4}, 12},
	{API{KeyListOffsets, "ListOffsets", 1, 11, 1}, 6},
	{API{KeyMetadata, "Metadata", 0, 13, 0}, 9},
	{API{KeyOffsetCommit, "OffsetCommit", 2, 10, 2}, 8},
	{API{KeyOffsetFetch, "OffsetFetch", 1, 10, 1}, 6},
	{API{KeyFindCoordinator, "FindCoordinator", 0, 6, 0}, 3},
	{API{KeyJoinGroup, "JoinGroup", 0, 9, 0}, 6},
	{API{KeyHeartbeat, "Heartbeat", 0, 4, 0}, 4},
	{API{KeyLeaveGroup, "LeaveGroup", 0, 5, 0}, 4},
	{API{KeySyncGroup, "SyncGroup", 0, 5, 0}, 4},
	{API{KeyDescribeGroups, "DescribeGroups", 0, 6, 0}, 5},
	{API{KeyListGroups, "ListGroups", 0, 5, 0}, 3},
	{API{KeySaslHandshake, "SaslHandshake", 0, 1, 0}, neverFlexible},
	{API{KeyAPIVersions, "ApiVersions", 0, 4, 0}, 3},
	{API{KeyCreateTopics, "CreateTopics", 2, 7, 2}, 5},
	{API{KeyDeleteTopics, "DeleteTopics", 1, 6, 1}, 4},
	{API{KeyDeleteRecords, "DeleteRecords", 0, 2, 0}, 2},
	{API{KeyInitProducerID, "InitProducerId", 0, 5, 0}, 2},
	{API{KeyOffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, 2}, 4},
	{API{KeyDescribeACLs, "DescribeAcls", 1, 3, 1}, 2},
	{API{KeyCreateACLs, "CreateAcls", 1, 3, 1}, 2},
	{API{KeyDeleteACLs, "DeleteAcls", 1, 3, 1}, 2},
	{API{KeyDescribeConfigs, "DescribeConfigs", 1, 4, 1}, 4},
	{API{KeyDescribeLogDirs, "DescribeLogDirs", 1, 5, 1}, 2},
	{API{KeySaslAuthenticate, "SaslAuthenticate", 0, 2, 0}, 2},
	{API{KeyCreatePartitions, "CreatePartitions", 0, 3, 0}, 2},
	{API{KeyDeleteGroups, "DeleteGroups", 0, 2, 0}, 2},
	{API{KeyElectLeaders, "ElectLeaders", 0, 2, 0}, 2},
	{API{KeyIncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1, 0}, 1},
	{API{KeyAlterPartitionReassignments, "AlterPartitionReassignments", 0, 1, 0}, 0},
	{API{KeyListPartitionReassignments, "ListPartitionReassignments", 0, 0, 0}, 0},
	{API{KeyOffsetDelete, "OffsetDelete", 0, 0, 0}, neverFlexible},
	{API{KeyDescribeCluster, "DescribeCluster", 0, 2, 0}, 0},
	{API{KeyDescribeTopicPartitions, "DescribeTopicPartitions", 0, 0, 0}, 0},
}

// APIs returns the table of served requests, ordered by key. The slice is the caller's.
func APIs() []API {
	out := make([]API, len(apis))
	for i, a := range apis {
		out[i] = a.API
	}
	return out
}

func findAPI(key int16) int {
	i := sort.Search(len(apis), func(i int) bool { return int16(apis[i].Key) >= key })
	if i < len(apis) && int16(apis[i].Key) == key {
		return i
	}
	return -1
}

// LookupAPI returns the row of key, if it is served.
func LookupAPI(key int16) (API, bool) {
	i := findAPI(key)
	if i < 0 {
		return API{}, false
	}
	return apis[i].API, true
}

// Supported reports whether requests of this key and version are served.
func Supported(key, version int16) bool {
	a, ok := LookupAPI(key)
	return ok && a.Min <= version && version <= a.Max
}

// String returns Kafka's name of the request, or "Key(n)" for one that is not served.
func (k Key) String() string {
	if a, ok := LookupAPI(int16(k)); ok {
		return a.Name
	}
	return fmt.Sprintf("Key(%d)", int16(k))
}

// MarkdownTable renders the table of served requests for the README.
func MarkdownTable() string {
	var b strings.Builder
	b.WriteString("| Key | Request | Versions |\n|---:|---|---|\n")
	for _, a := range apis {
		versions := fmt.Sprintf("%d–%d", a.Min, a.Max)
		if a.Min == a.Max {
			versions = fmt.Sprint(a.Min)
		}
		if a.AdvertisedMin != a.Min {
			versions += fmt.Sprintf(" (advertised from %d)", a.AdvertisedMin)
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", a.Key, a.Name, versions)
	}
	return b.String()
}
