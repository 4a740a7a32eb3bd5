package verify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// formatVersion is in the first line of every stored history.
const formatVersion = 1

// A line of a stored history has one of its fields.
type line struct {
	History   *header    `json:"history,omitempty"`
	Send      *Send      `json:"send,omitempty"`
	Poll      *Poll      `json:"poll,omitempty"`
	Commit    *Commit    `json:"commit,omitempty"`
	Committed *Committed `json:"committed,omitempty"`
	EndOffset *EndOffset `json:"endOffset,omitempty"`
	Log       *Log       `json:"log,omitempty"`
}

type header struct {
	Version    int    `json:"version"`
	Topic      string `json:"topic"`
	Partitions int32  `json:"partitions"`
}

// Write stores the history as lines of JSON: a header, then one event a line.
func (h *History) Write(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	out := json.NewEncoder(buffered)
	err := out.Encode(line{History: &header{Version: formatVersion, Topic: h.Topic, Partitions: h.Partitions}})
	err = errors.Join(err,
		encode(out, h.Sends, func(e *Send) line { return line{Send: e} }),
		encode(out, h.Polls, func(e *Poll) line { return line{Poll: e} }),
		encode(out, h.Commits, func(e *Commit) line { return line{Commit: e} }),
		encode(out, h.Committed, func(e *Committed) line { return line{Committed: e} }),
		encode(out, h.EndOffsets, func(e *EndOffset) line { return line{EndOffset: e} }),
		encode(out, h.Logs, func(e *Log) line { return line{Log: e} }),
		buffered.Flush())
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

func encode[E any](out *json.Encoder, events []E, wrap func(*E) line) error {
	for i := range events {
		if err := out.Encode(wrap(&events[i])); err != nil {
			return err
		}
	}
	return nil
}

// ReadHistory reads what Write wrote. Its lines may have been sorted, thinned out or put together by other tools.
func ReadHistory(r io.Reader) (*History, error) {
	in := json.NewDecoder(bufio.NewReader(r))
	in.DisallowUnknownFields()
	h := &History{}
	for n := 1; ; n++ {
		var l line
		err := in.Decode(&l)
		if errors.Is(err, io.EOF) && n > 1 {
			return h, nil
		}
		if err == nil {
			err = h.add(l, n == 1)
		}
		if err != nil {
			return nil, fmt.Errorf("read history, line %d: %w", n, err)
		}
	}
}

func (h *History) add(l line, first bool) error {
	switch {
	case (l.History != nil) != first:
		return errors.New("a history begins with its header, and has one")
	case l.History != nil && l.History.Version != formatVersion:
		return fmt.Errorf("format version %d, this program reads %d", l.History.Version, formatVersion)
	case l.History != nil:
		h.Topic, h.Partitions = l.History.Topic, l.History.Partitions
	case l.Send != nil:
		h.Sends = append(h.Sends, *l.Send)
	case l.Poll != nil:
		h.Polls = append(h.Polls, *l.Poll)
	case l.Commit != nil:
		h.Commits = append(h.Commits, *l.Commit)
	case l.Committed != nil:
		h.Committed = append(h.Committed, *l.Committed)
	case l.EndOffset != nil:
		h.EndOffsets = append(h.EndOffsets, *l.EndOffset)
	case l.Log != nil:
		h.Logs = append(h.Logs, *l.Log)
	default:
		return errors.New("a line without an event")
	}
	return nil
}
