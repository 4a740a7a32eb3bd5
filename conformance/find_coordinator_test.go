package conformance

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// Operations that everybody may do where there is no authorizer, as bits; and none, because nobody asked.
const (
	topicOperations   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	groupOperations   int32 = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11
	noOperations      int32 = -1 << 31
)

// TestG17FindCoordinator: who coordinates a group, at every version.
func TestG17FindCoordinator(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	Committed(c, n("g"), n("t"), 0)
	find := func(version int16, kind int8, keys ...string) *kmsg.FindCoordinatorResponse {
		t.Helper()
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = version, kind, keys[0], keys
		resp := Ask[*kmsg.FindCoordinatorResponse](c, req)
		if version < 4 {
			one := kmsg.NewFindCoordinatorResponseCoordinator()
			one.Key, one.ErrorCode, one.ErrorMessage = keys[0], resp.ErrorCode, resp.ErrorMessage
			one.NodeID, one.Host, one.Port = resp.NodeID, resp.Host, resp.Port
			resp.Coordinators = append(resp.Coordinators, one)
		}
		return resp
	}
	for version := int16(0); version <= 6; version++ {
		t.Run(fmt.Sprintf("group v%d", version), func(t *testing.T) {
			keys := []string{n("g")}
			if version >= 4 {
				keys = []string{n("g"), "", n("g"), n("another")}
			}
			resp := find(version, 0, keys...)
			if len(resp.Coordinators) != len(keys) {
				t.Fatalf("%d answers for %d keys", len(resp.Coordinators), len(keys))
			}
			for i, got := range resp.Coordinators {
				if got.ErrorCode != 0 || got.NodeID != target.node || got.Host == "" || got.Port <= 0 || got.Key != keys[i] {
					t.Errorf("%+v", got)
				}
				if want := map[bool]string{true: "NONE"}[version < 4]; version > 0 && (got.ErrorMessage == nil || *got.ErrorMessage != want) {
					t.Errorf("G17: message %v, want %q", got.ErrorMessage, want)
				}
			}
		})
		if version == 0 {
			continue
		}
		t.Run(fmt.Sprintf("refused types v%d", version), func(t *testing.T) {
			want := map[int8]protocol.ErrorCode{2: protocol.CodeInvalidRequest, 3: protocol.CodeInvalidRequest, -1: protocol.CodeInvalidRequest}
			for kind, code := range want {
				if kind == 2 && version >= 6 {
					continue
				}
				got := find(version, kind, n("g")).Coordinators[0]
				WantCode(t, fmt.Sprintf("type %d", kind), got.ErrorCode, code)
				if got.NodeID != -1 || got.Port != -1 {
					t.Errorf("type %d: node %d, port %d", kind, got.NodeID, got.Port)
				}
			}
		})
	}
}

// TestG15: what describes groups says beside their state.
func TestG15(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	Committed(c, n("g"), n("t"), 0)
	for version := int16(0); version <= 6; version++ {
		t.Run(fmt.Sprintf("describe v%d", version), func(t *testing.T) {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Version, req.Groups = version, []string{n("g"), n("nobody")}
			for _, asked := range []bool{false, true} {
				if asked && version < 3 {
					continue
				}
				req.IncludeAuthorizedOperations = asked
				for _, g := range Ask[*kmsg.DescribeGroupsResponse](c, req).Groups {
					wantOps, wantState, wantErr := noOperations, "Empty", protocol.CodeNone
					if g.Group == n("nobody") {
						wantState = "Dead"
						if version >= 6 {
							wantErr = protocol.CodeGroupIDNotFound
						}
					}
					if asked && wantErr == protocol.CodeNone {
						wantOps = groupOperations
					}
					if g.AuthorizedOperations != wantOps || g.State != wantState || g.ErrorCode != int16(wantErr) {
						t.Errorf("%s: operations %#x, state %s, code %d, want %#x, %s, %v", g.Group, g.AuthorizedOperations, g.State, g.ErrorCode, wantOps, wantState, wantErr)
					}
				}
			}
		})
	}
}
