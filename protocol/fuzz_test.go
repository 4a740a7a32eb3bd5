package protocol

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzParseHeader: a frame is a header with what follows, or malformed; the body is the frame's own end.
func FuzzParseHeader(f *testing.F) {
	for _, a := range APIs() {
		req := kmsg.RequestForKey(int16(a.Key))
		req.SetVersion(a.Max)
		f.Add(kmsg.NewRequestFormatter(kmsg.FormatterClientID("seed")).AppendRequest(nil, req, 7)[4:])
	}
	f.Add([]byte{0, 18, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := ParseHeader(frame)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("unclassified error %v", err)
			}
			return
		}
		if h.Key != int16(binary.BigEndian.Uint16(frame)) || h.CorrelationID != int32(binary.BigEndian.Uint32(frame[4:])) {
			t.Fatalf("header %+v of % x", h, frame)
		}
		if string(frame[len(frame)-len(body):]) != string(body) {
			t.Fatal("the body is not the end of the frame")
		}
	})
}

// FuzzParseTopicID: what parses is what is printed.
func FuzzParseTopicID(f *testing.F) {
	f.Add(TopicID{1, 2, 3}.String())
	f.Add("AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("AAAAAAAAAAAAAAAAAAAAAB")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseTopicID(text)
		if err == nil && id.String() != text {
			t.Fatalf("%q reads as %s", text, id)
		}
	})
}
