package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/tidemill/tidemill/metadata"
	"github.com/tidemill/tidemill/wal"
)

const clusterInfoUsage = `Usage: broker cluster info [--json] --cluster etcd://host:port/name [etcd's flags]

Shows the brokers with what they own and what that costs them, smoothed over minutes, lives that own partitions though their broker is not there, partitions without a
live owner, and partitions that are on their way.
`

// shownMax bounds lists in tables; --json has all.
const shownMax = 20

// clusterInfo shows who owns what.
func clusterInfo(ctx context.Context, e *environment) error {
	asJSON := false
	task := clusterTask{usage: clusterInfoUsage, switches: map[string]*bool{"json": &asJSON}, check: noWords("info")}
	task.run = func(ctx context.Context, c *clusterCall) error {
		lives, err := c.meta.AllLives(ctx)
		if err != nil {
			return err
		}
		loads, err := c.meta.Loads(ctx)
		if err != nil {
			return err
		}
		s := survey(c.meta.Image(), lives, loads)
		if asJSON {
			out := json.NewEncoder(c.stdout)
			out.SetIndent("", "  ")
			return out.Encode(s)
		}
		return s.writeText(c.stdout)
	}
	return task.do(ctx, e)
}

// A clusterSurvey is what info shows.
type clusterSurvey struct {
	ClusterID string `json:"cluster_id"`
	// Controller is nil while there is none.
	Controller *int32         `json:"controller"`
	Brokers    []surveyBroker `json:"brokers"`
	// Gone are lives that own partitions and are not registered.
	Gone []surveyLife `json:"gone"`
	// Leaderless are the partitions that they own.
	Leaderless []string     `json:"leaderless"`
	Moves      []surveyMove `json:"moves"`
	// Pinned counts partitions that balance leaves alone.
	Pinned int `json:"pinned"`
	// DrainMarks are of brokers that are not registered.
	DrainMarks []int32 `json:"drain_marks_of_absent_brokers"`
}

type surveyBroker struct {
	ID         int32  `json:"id"`
	Life       string `json:"life"`
	Address    string `json:"address"`
	Rack       string `json:"rack"`
	Draining   bool   `json:"draining"`
	DrainMark  bool   `json:"drain_mark"`
	Partitions int    `json:"partitions"`
	Controller bool   `json:"controller"`
	// BytesPerSecond and RequestsPerSecond are nil while the broker has not told what it measured.
	BytesPerSecond    *float64 `json:"bytes_per_second"`
	RequestsPerSecond *float64 `json:"requests_per_second"`
}

type surveyLife struct {
	Life       string `json:"life"`
	Log        string `json:"log"`
	Partitions int    `json:"partitions"`
}

type surveyMove struct {
	Partition string `json:"partition"`
	From      string `json:"from"`
	To        string `json:"to"`
}

// survey puts together what an image, the lives and the brokers' loads tell.
func survey(img *metadata.Image, lives []wal.StreamState, loads map[int32]metadata.BrokerLoads) *clusterSurvey {
	s := &clusterSurvey{
		ClusterID: img.Cluster.ID, Brokers: []surveyBroker{}, Gone: []surveyLife{}, Leaderless: []string{}, Moves: []surveyMove{}, DrainMarks: []int32{},
	}
	if !img.Controller.Life.IsZero() {
		s.Controller = &img.Controller.Life.Broker
	}
	owned, gone := map[wal.Life]int{}, map[wal.Life]int{}
	for _, name := range slices.Sorted(maps.Keys(img.Topics)) {
		for i, p := range img.Topics[name].Partitions {
			partition := name + "/" + strconv.Itoa(i)
			owned[p.Owner]++
			if img.Brokers[p.Owner.Broker].Life != p.Owner {
				gone[p.Owner]++
				s.Leaderless = append(s.Leaderless, partition)
			}
			if !p.Target.IsZero() && p.Target != p.Owner {
				s.Moves = append(s.Moves, surveyMove{partition, p.Owner.String(), p.Target.String()})
			}
			if p.Pin != nil {
				s.Pinned++
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(img.Brokers)) {
		b := img.Brokers[id]
		row := surveyBroker{
			ID: id, Life: b.Life.String(), Address: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), Rack: b.Rack, Draining: b.Draining,
			DrainMark: img.Drains[id], Partitions: owned[b.Life], Controller: b.Life == img.Controller.Life,
		}
		if l, told := loads[id]; told && l.Life == b.Life {
			row.BytesPerSecond, row.RequestsPerSecond = &l.Total.BytesPerSecond, &l.Total.RequestsPerSecond
		}
		s.Brokers = append(s.Brokers, row)
	}
	phases := map[wal.Life]wal.Phase{}
	for _, l := range lives {
		phases[l.Life] = l.Phase
	}
	for life, n := range gone {
		s.Gone = append(s.Gone, surveyLife{life.String(), phaseName(phases[life]), n})
	}
	slices.SortFunc(s.Gone, func(a, b surveyLife) int { return cmp.Compare(a.Life, b.Life) })
	for _, id := range slices.Sorted(maps.Keys(img.Drains)) {
		if _, ok := img.Brokers[id]; !ok {
			s.DrainMarks = append(s.DrainMarks, id)
		}
	}
	return s
}

func phaseName(p wal.Phase) string {
	switch p {
	case wal.PhaseOpen:
		return "OPEN"
	case wal.PhaseSealing:
		return "SEALING"
	case wal.PhaseSealed:
		return "SEALED"
	}
	return "unknown"
}

func (s *clusterSurvey) writeText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "cluster %s\n\nBROKER\tLIFE\tADDRESS\tRACK\tSTATE\tPARTITIONS\tBYTES/S\tREQUESTS/S\n", s.ClusterID)
	for _, b := range s.Brokers {
		mark := ""
		if b.Controller {
			mark = " *"
		}
		_, _ = fmt.Fprintf(w, "%d%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", b.ID, mark, b.Life, b.Address, orNone(b.Rack), b.state(), b.Partitions,
			perSecond(b.BytesPerSecond), perSecond(b.RequestsPerSecond))
	}
	if s.Controller != nil {
		_, _ = fmt.Fprintln(w, "* controller")
	} else {
		_, _ = fmt.Fprintln(w, "no broker is the controller: nothing is planned until one is")
	}
	for _, id := range s.DrainMarks {
		_, _ = fmt.Fprintf(w, "broker %d is not registered, and has a drain mark: broker cluster drain %d --undo takes it back\n", id, id)
	}
	if len(s.Gone) > 0 {
		_, _ = fmt.Fprintln(w, "\nNot registered, and own partitions:\nLIFE\tLOG\tPARTITIONS")
		for _, l := range s.Gone {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%d\n", l.Life, l.Log, l.Partitions)
		}
		shown := s.Leaderless[:min(shownMax, len(s.Leaderless))]
		_, _ = fmt.Fprintf(w, "\n%s without a live owner: %s%s\n", count(len(s.Leaderless)), strings.Join(shown, " "), more(len(s.Leaderless)))
	}
	if len(s.Moves) > 0 {
		_, _ = fmt.Fprintf(w, "\n%s on the way:\nPARTITION\tFROM\tTO\n", count(len(s.Moves)))
		for _, m := range s.Moves[:min(shownMax, len(s.Moves))] {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", m.Partition, m.From, m.To)
		}
		_, _ = fmt.Fprint(w, more(len(s.Moves)))
	}
	if s.Pinned > 0 {
		_, _ = fmt.Fprintf(w, "\n%s pinned: balance leaves them alone\n", count(s.Pinned))
	}
	return w.Flush()
}

func (b *surveyBroker) state() string {
	switch {
	case b.DrainMark:
		return "drained by an operator"
	case b.Draining:
		return "stopping"
	}
	return "serving"
}

// perSecond is a whole number, or that nobody told it.
func perSecond(x *float64) string {
	if x == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*x, 'f', 0, 64)
}

// count is a number of partitions in words.
func count(n int) string {
	if n == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", n)
}

// more says how many of n are not shown.
func more(n int) string {
	if n <= shownMax {
		return ""
	}
	return fmt.Sprintf(" and %d more (--json has all)", n-shownMax)
}
