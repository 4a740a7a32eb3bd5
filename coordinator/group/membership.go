package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// JoinGroup handles API key 11. The reply waits for the rebalance, the request need not.
func (c *Coordinator) JoinGroup(req *kmsg.JoinGroupRequest, client Client, reply func(*kmsg.JoinGroupResponse)) {
	if req.Group == "" || len(req.Group) > nameBytesMax {
		resp := joinError(req.MemberID, protocol.CodeInvalidGroupID)
		resp.Version, resp.Members = req.Version, []kmsg.JoinGroupResponseMember{}
		reply(&resp)
		return
	}
	j := newJoin(req, client, c.o.NewID(), reply)
	refuse := func(code protocol.ErrorCode) {
		resp := joinError(j.req.MemberID, code)
		resp.Version, resp.Members = j.req.Version, []kmsg.JoinGroupResponseMember{}
		reply(&resp)
	}
	submit := c.submit
	if req.InstanceID != nil && req.MemberID == "" { // takes a member's place, which is written
		submit = c.submitWrite
	}
	submit(c.shardOf(req.Group),
		func(m *machine) { m.joinGroup(j) },
		func(err error) { refuse(codeOf(err)) })
}

// SyncGroup handles API key 14. The reply waits for the leader; read is called once, when the request is not read any more.
func (c *Coordinator) SyncGroup(req *kmsg.SyncGroupRequest, read func(), reply func(*kmsg.SyncGroupResponse)) {
	version := req.Version
	refuse := func(code protocol.ErrorCode) {
		resp := syncError(code)
		resp.Version, resp.MemberAssignment = version, []byte{}
		reply(&resp)
	}
	switch {
	case req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil):
		refuse(protocol.CodeInconsistentGroupProtocol) // G9
		read()
		return
	case req.Group == "":
		refuse(protocol.CodeInvalidGroupID)
		read()
		return
	}
	w := &syncWaiter{version: req.Version, reply: reply}
	submit := c.submit
	if len(req.GroupAssignment) > 0 {
		submit = c.submitWrite
	}
	submit(c.shardOf(req.Group),
		func(m *machine) {
			m.syncGroup(req, w)
			read()
		},
		func(err error) {
			refuse(syncCode(err))
			read()
		})
}

// Heartbeat handles API key 12.
func (c *Coordinator) Heartbeat(req *kmsg.HeartbeatRequest, reply func(*kmsg.HeartbeatResponse)) {
	answer := func(code protocol.ErrorCode) {
		reply(&kmsg.HeartbeatResponse{Version: req.Version, ErrorCode: int16(code)})
	}
	if req.Group == "" {
		answer(protocol.CodeInvalidGroupID)
		return
	}
	fail := func(err error) { answer(heartbeatCode(err)) }
	c.submit(c.shardOf(req.Group), func(m *machine) {
		code := m.heartbeat(req)
		m.out.Reply(func(err error) {
			if err != nil {
				fail(err)
				return
			}
			answer(code)
		})
	}, fail)
}

// LeaveGroup handles API key 13.
func (c *Coordinator) LeaveGroup(req *kmsg.LeaveGroupRequest, reply func(*kmsg.LeaveGroupResponse)) {
	resp := &kmsg.LeaveGroupResponse{Version: req.Version, Members: []kmsg.LeaveGroupResponseMember{}}
	fail := func(code protocol.ErrorCode) {
		resp.ErrorCode, resp.Members = int16(code), []kmsg.LeaveGroupResponseMember{}
	}
	if req.Group == "" {
		fail(protocol.CodeInvalidGroupID)
		reply(resp)
		return
	}
	c.replyAll(c.shardOf(req.Group), func(m *machine) {
		if req.Version >= 3 {
			resp.Members = m.leaveGroup(req.Group, req.Members)
			return
		}
		one := m.leaveGroup(req.Group, []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}})
		resp.ErrorCode = one[0].ErrorCode
	}, fail, func() { reply(resp) })
}
