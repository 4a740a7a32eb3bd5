package controller

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/wal"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata with what happens")

// TestTranscripts plays the scripts in testdata. A block is some commands, a line "----", and what comes of them; blocks end
// with an empty line. Only commit a rewritten transcript if you understand and want each change.
//
//	broker ID... [rack=NAME]          a broker comes; if there was one, this is its next life, printed as ID.LIFE
//	drain ID...   gone ID...          it is draining; it is not registered any more
//	seal LIFE                         a log was sealed: what the life owns are orphans
//	topic NAME[/FROM-TO] owner=LIFE,... [bytes=N[k|M] requests=N target=LIFE pinned stuck recent settled]
//	                                  partitions, their owners in turn; again for one that is there: changes what is said
//	options [threshold=F moves=N]
//	plan [brief]                      prints the moves, or how many there are of each kind
//	apply                             carries out the moves of the last plan
//	intend   settle                   only writes its intents; carries out all intents that there are
//	place NAME N                      prints the owners of new partitions
//	show                              prints what each broker carries
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
	p := &player{t: t, lives: map[int32]uint64{}}
	var played []string
	for block := range strings.SplitSeq(strings.TrimSpace(string(script)), "\n\n") {
		head, want, _ := strings.Cut(block, "\n----")
		p.out = nil
		for line := range strings.SplitSeq(head, "\n") {
			if !strings.HasPrefix(line, "#") {
				p.play(line)
			}
		}
		got := strings.Join(p.out, "\n")
		if want = strings.TrimSpace(want); got != want && !*rewrite {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", head, got, want)
		}
		played = append(played, strings.TrimSpace(head+"\n----\n"+got))
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(played, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type player struct {
	t       *testing.T
	state   State
	options Options
	lives   map[int32]uint64 // broker -> its newest life
	moves   []Move
	out     []string
}

func (p *player) say(format string, args ...any) { p.out = append(p.out, fmt.Sprintf(format, args...)) }

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
	case "broker", "drain", "gone":
		for _, id := range names {
			p.playBroker(words[0], int32(p.number(id)), args["rack"])
		}
	case "seal":
		p.state.seal(p.life(names[0]))
	case "topic":
		p.playTopic(names, args)
	case "options":
		p.options = Options{Threshold: p.number(args["threshold"]), MovesMax: int(p.number(args["moves"]))}
	case "plan":
		p.moves = Plan(p.state, p.options)
		p.sayMoves(len(names) > 0)
	case "intend":
		p.state.intend(p.moves)
	case "settle":
		p.state.settle()
	case "apply":
		p.state.apply(p.moves)
	case "place":
		var s []string
		for _, l := range Place(p.state, topicID(names[0]), int(p.number(names[1]))) {
			s = append(s, " "+lifeName(l))
		}
		p.say("%s:%s", names[0], strings.Join(s, ""))
	case "show":
		p.sayState()
	default:
		p.t.Fatalf("no such command: %s", line)
	}
}

func (p *player) playBroker(command string, id int32, rack string) {
	at := slices.IndexFunc(p.state.Brokers, func(b Broker) bool { return b.Life.Broker == id })
	switch {
	case command == "broker":
		p.lives[id]++
		b := Broker{Life: wal.Life{Broker: id, Epoch: p.lives[id]}, Rack: rack}
		if at >= 0 {
			p.state.Brokers[at] = b
		} else {
			p.state.Brokers = append(p.state.Brokers, b)
		}
	case at < 0:
		p.t.Fatalf("%s %d: there is no such broker", command, id)
	case command == "drain":
		p.state.Brokers[at].Draining = true
	default:
		p.state.Brokers = slices.Delete(p.state.Brokers, at, at+1)
	}
}

func (p *player) playTopic(names []string, args map[string]string) {
	name, span, _ := strings.Cut(names[0], "/")
	first, last, isSpan := strings.Cut(span, "-")
	from, to := int32(p.number(first)), int32(p.number(first))
	if isSpan {
		to = int32(p.number(last))
	}
	owners := strings.Split(args["owner"], ",")
	for i := from; i <= to; i++ {
		id := protocol.PartitionID{Topic: topicID(name), Partition: i}
		at := slices.IndexFunc(p.state.Partitions, func(q Partition) bool { return q.ID == id })
		if at < 0 {
			at = len(p.state.Partitions)
			p.state.Partitions = append(p.state.Partitions, Partition{ID: id})
		}
		q := &p.state.Partitions[at]
		if args["owner"] != "" {
			q.Owner = p.life(owners[int(i-from)%len(owners)])
		}
		if args["target"] != "" {
			q.Target = p.life(args["target"])
		}
		q.Load.BytesPerSecond = cmp.Or(p.number(args["bytes"]), q.Load.BytesPerSecond)
		q.Load.RequestsPerSecond = cmp.Or(p.number(args["requests"]), q.Load.RequestsPerSecond)
		q.Pinned = q.Pinned || slices.Contains(names, "pinned")
		q.Stuck = q.Stuck || slices.Contains(names, "stuck")
		q.Recent = (q.Recent || slices.Contains(names, "recent")) && !slices.Contains(names, "settled")
	}
}

// sayMoves prints moves one a line, or when brief how many there are between each two lives.
func (p *player) sayMoves(brief bool) {
	if len(p.moves) == 0 {
		p.say("nothing")
	}
	kinds := map[string]int{}
	for _, m := range p.moves {
		kind := fmt.Sprintf("%s %s -> %s", m.Reason, lifeName(m.From), lifeName(m.To))
		if !brief {
			p.say("%s/%d %s", strings.TrimRight(string(m.ID.Topic[:]), "\x00"), m.ID.Partition, kind)
			continue
		}
		if kinds[kind]++; kinds[kind] == 1 {
			p.say("%s", kind)
		}
	}
	for i, kind := range p.out {
		if n, ok := kinds[kind]; ok {
			p.out[i] = fmt.Sprintf("%d %s", n, kind)
		}
	}
}

func (p *player) sayState() {
	loads := map[wal.Life]*vector{}
	var lives []wal.Life
	note := func(l wal.Life) *vector {
		if loads[l] == nil {
			lives, loads[l] = append(lives, l), &vector{}
		}
		return loads[l]
	}
	for _, b := range p.state.Brokers {
		note(b.Life)
	}
	for i := range p.state.Partitions {
		note(p.state.Partitions[i].Owner).plus(p.state.Partitions[i].vector())
	}
	slices.SortFunc(lives, compareLives)
	for _, l := range lives {
		v := loads[l]
		p.say("%s: %v partitions, %v kB/s, %v requests/s", lifeName(l), v[count], v[bytesPerSecond]/1e3, v[requestsPerSecond])
	}
}

func (p *player) number(s string) float64 {
	if s == "" {
		return 0
	}
	unit := 1.0
	switch s[len(s)-1] {
	case 'k':
		unit = 1e3
	case 'M':
		unit = 1e6
	}
	n, err := strconv.ParseFloat(strings.TrimRight(s, "kM"), 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n * unit
}

func (p *player) life(s string) wal.Life {
	id, epoch, ok := strings.Cut(s, ".")
	if !ok {
		epoch = "1"
	}
	return wal.Life{Broker: int32(p.number(id)), Epoch: uint64(p.number(epoch))}
}

func lifeName(l wal.Life) string {
	if l.Epoch == 1 {
		return fmt.Sprint(l.Broker)
	}
	return fmt.Sprintf("%d.%d", l.Broker, l.Epoch)
}

func topicID(name string) (id protocol.TopicID) {
	copy(id[:], name)
	return id
}
