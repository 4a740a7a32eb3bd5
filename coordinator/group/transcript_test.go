package group

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata with what happens")

// TestTranscripts plays the scripts in testdata. A block is a command, a line "----", and what comes of it; blocks end
// with an empty line. Only commit a rewritten transcript if you understand and want each change.
//
//	join NAME [fresh] [version= type= protocols= instance= session= rebalance=]
//	sync NAME [gen= assign=NAME:TEXT,...]   heartbeat NAME [gen=]   leave NAME...
//	commit NAME [gen=] at=   (NAME "-": no member)   fetch   advance DURATION   restart   set KEY=DURATION
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { playFile(t, file) })
	}
}

func playFile(t *testing.T, file string) {
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{bench: newBench(t), ids: map[string]string{}, gens: map[string]int32{}}
	var played []string
	for block := range strings.SplitSeq(strings.TrimSpace(string(script)), "\n\n") {
		head, want, _ := strings.Cut(block, "\n----")
		p.out = nil
		for line := range strings.SplitSeq(head, "\n") {
			if !strings.HasPrefix(line, "#") {
				p.play(line)
			}
		}
		p.say("%s", p.summary())
		got := strings.Join(p.out, "\n")
		if want = strings.TrimSpace(want); got != want && !*rewrite {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", head, got, want)
		}
		played = append(played, head+"\n----\n"+got)
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(played, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type player struct {
	*bench
	ids  map[string]string // name -> member id
	gens map[string]int32  // name -> generation of its last join
	out  []string
}

func (p *player) say(format string, args ...any) { p.out = append(p.out, fmt.Sprintf(format, args...)) }

// summary is the group after a command.
func (p *player) summary() string {
	g := p.machine.groups["g"]
	if g == nil {
		return "= Dead"
	}
	s := fmt.Sprintf("= %s generation %d", g.state, g.generation)
	g.each(func(mb *member) {
		s += " " + mb.id
		if mb.id == g.leader {
			s += "*"
		}
	})
	if len(g.pending) > 0 {
		s += fmt.Sprintf(" pending %d", len(g.pending))
	}
	return s
}

// codeNames are the codes that transcripts show by name.
var codeNames = map[protocol.ErrorCode]string{
	protocol.CodeNone:                      "ok",
	protocol.CodeNotCoordinator:            "NOT_COORDINATOR",
	protocol.CodeIllegalGeneration:         "ILLEGAL_GENERATION",
	protocol.CodeInconsistentGroupProtocol: "INCONSISTENT_GROUP_PROTOCOL",
	protocol.CodeUnknownMemberID:           "UNKNOWN_MEMBER_ID",
	protocol.CodeRebalanceInProgress:       "REBALANCE_IN_PROGRESS",
	protocol.CodeMemberIDRequired:          "MEMBER_ID_REQUIRED",
	protocol.CodeFencedInstanceID:          "FENCED_INSTANCE_ID",
	protocol.CodeGroupMaxSizeReached:       "GROUP_MAX_SIZE_REACHED",
}

func codeName(code int16) string {
	if name, ok := codeNames[protocol.ErrorCode(code)]; ok {
		return name
	}
	return strconv.Itoa(int(code))
}

func (p *player) play(line string) {
	words := strings.Fields(line)
	args := map[string]string{}
	var names []string
	for _, w := range words[1:] {
		if key, value, ok := strings.Cut(w, "="); ok {
			args[key] = value
		} else {
			names = append(names, w)
		}
	}
	switch words[0] {
	case "join":
		p.playJoin(names, args)
	case "sync":
		p.playSync(names[0], args)
	case "heartbeat":
		p.say("%s: heartbeat %s", names[0], codeName(int16(p.heartbeat(p.ids[names[0]], p.generation(names[0], args), nil))))
	case "leave":
		var leaving []kmsg.LeaveGroupRequestMember
		for _, n := range names {
			leaving = append(leaving, kmsg.LeaveGroupRequestMember{MemberID: p.ids[n]})
		}
		for i, answer := range p.leave(leaving...) {
			p.say("%s: leave %s", names[i], codeName(answer.ErrorCode))
		}
	case "commit":
		at, _ := strconv.ParseInt(args["at"], 10, 64)
		p.say("%s: commit %s", names[0], codeName(int16(p.commit(p.ids[names[0]], p.generation(names[0], args), at))))
	case "fetch":
		p.say("offset %d", p.fetch("g", "t", 0))
	case "advance":
		p.advance(p.duration(names[0]))
	case "restart":
		p.restart()
	case "set":
		p.limits.InitialRebalanceDelay = p.duration(args["initial-delay"])
	default:
		p.t.Fatalf("no such command: %s", line)
	}
}

func (p *player) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func (p *player) generation(name string, args map[string]string) int32 {
	if s, ok := args["gen"]; ok {
		n, _ := strconv.Atoi(s)
		return int32(n)
	}
	if name == "-" {
		return -1
	}
	return p.gens[name]
}

func (p *player) playJoin(names []string, args map[string]string) {
	name := names[0]
	spec := joinSpec{client: name, member: p.ids[name], typ: args["type"], version: 9}
	if len(names) > 1 { // fresh: as after a restart of the client
		spec.member = ""
	}
	if s, ok := args["instance"]; ok {
		spec.instance = &s
	}
	if s, ok := args["protocols"]; ok {
		spec.protocols = strings.Split(s, ",")
	}
	if s, ok := args["session"]; ok {
		spec.session = p.duration(s)
	}
	if s, ok := args["rebalance"]; ok {
		spec.rebalance = p.duration(s)
	}
	if s, ok := args["version"]; ok {
		n, _ := strconv.Atoi(s)
		spec.version = int16(n)
	}
	p.nextID++
	j := newJoin(spec.withDefaults().request(), Client{ID: name, Host: "/127.0.0.1"}, fmt.Sprint(p.nextID),
		func(resp *kmsg.JoinGroupResponse) { p.sayJoined(name, resp) })
	p.step(func(m *machine) { m.joinGroup(j) })
	p.tick()
}

func (p *player) sayJoined(name string, resp *kmsg.JoinGroupResponse) {
	s := fmt.Sprintf("%s: join %s member %q", name, codeName(resp.ErrorCode), resp.MemberID)
	if resp.ErrorCode == 0 {
		p.gens[name] = resp.Generation
		s += fmt.Sprintf(" generation %d leader %s protocol %s", resp.Generation, resp.LeaderID, *resp.Protocol)
		for _, mb := range resp.Members {
			s += fmt.Sprintf(" (%s %q)", mb.MemberID, mb.ProtocolMetadata)
		}
		if resp.SkipAssignment {
			s += " skip"
		}
	}
	if resp.ErrorCode == 0 || protocol.ErrorCode(resp.ErrorCode) == protocol.CodeMemberIDRequired {
		p.ids[name] = resp.MemberID
	}
	p.say("%s", s)
}

func (p *player) playSync(name string, args map[string]string) {
	req := &kmsg.SyncGroupRequest{Version: 3, Group: "g", MemberID: p.ids[name], Generation: p.generation(name, args)}
	for pair := range strings.SplitSeq(args["assign"], ",") {
		who, text, _ := strings.Cut(pair, ":")
		req.GroupAssignment = append(req.GroupAssignment,
			kmsg.SyncGroupRequestGroupAssignment{MemberID: p.ids[who], MemberAssignment: []byte(text)})
	}
	w := &syncWaiter{version: 3, reply: func(resp *kmsg.SyncGroupResponse) {
		p.say("%s: sync %s %q", name, codeName(resp.ErrorCode), resp.MemberAssignment)
	}}
	p.step(func(m *machine) { m.syncGroup(req, w) })
	p.tick()
}
