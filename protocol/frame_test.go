package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestErrorCodesAreKafkas(t *testing.T) {
	for c := CodeUnknownServerError; c <= CodeShareSessionLimitReached; c++ {
		want := "NONE"
		if c != 0 {
			want = kerr.TypedErrorForCode(int16(c)).Message
		}
		if c == CodeNotLeaderOrFollower {
			want = "NOT_LEADER_OR_FOLLOWER" // renamed in Kafka 2.6
		}
		if c.String() != want {
			t.Errorf("%d: got %s, want %s", int16(c), c, want)
		}
	}
	for _, tt := range []struct {
		code ErrorCode
		want int16
	}{{CodeNone, 0}, {CodeCorruptMessage, 2}, {CodeInvalidRecord, 87}, {CodeUnknownTopicID, 100}, {CodeRebootstrapRequired, 129}} {
		if int16(tt.code) != tt.want {
			t.Errorf("%s is %d, want %d", tt.code, int16(tt.code), tt.want)
		}
	}
	if got := ErrorCode(134).String(); got != "134" {
		t.Errorf("unknown code: got %q, want 134", got)
	}
}

func TestAPITableAgreesWithKmsg(t *testing.T) {
	last := Key(-1)
	for _, a := range APIs() {
		if a.Key <= last {
			t.Errorf("%s is out of order", a.Name)
		}
		last = a.Key
		req := kmsg.RequestForKey(int16(a.Key))
		if a.Min > a.Max || a.Max > req.MaxVersion() {
			t.Errorf("%s: versions %d to %d, kmsg has %d", a.Name, a.Min, a.Max, req.MaxVersion())
		}
		name := kmsg.NameForKey(int16(a.Key))
		if name == "AlterPartitionAssignments" {
			name = "AlterPartitionReassignments" // as Kafka calls it
		}
		if !strings.EqualFold(a.Name, name) {
			t.Errorf("%s: kmsg says %s", a.Name, name)
		}
		for v := a.Min; v <= a.Max; v++ {
			if req.SetVersion(v); flexible(int16(a.Key), v) != req.IsFlexible() {
				t.Errorf("%s v%d: flexible %v, kmsg says %v", a.Name, v, !req.IsFlexible(), req.IsFlexible())
			}
		}
		if a.AdvertisedMin != a.Min && a.Key != KeyProduce {
			t.Errorf("%s advertises version %d but serves from %d on", a.Name, a.AdvertisedMin, a.Min)
		}
	}
	if n := len(APIs()); n != 35 {
		t.Errorf("%d keys, want 35", n)
	}
}

func TestMarkdownTable(t *testing.T) {
	got := MarkdownTable()
	for _, line := range []string{"| 0 | Produce | 3–11 (advertised from 0) |\n", "| 46 | ListPartitionReassignments | 0 |\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

// A4: request headers are flexible from the request's flexible version on, with the client id never compact.
func TestParseHeader(t *testing.T) {
	id := "client"
	tests := []struct {
		name string
		in   []byte
		want Header
		body []byte
		err  error
	}{
		{"classic", []byte{0, 3, 0, 1, 0, 0, 0, 9, 0, 6, 'c', 'l', 'i', 'e', 'n', 't', 7},
			Header{Key: 3, Version: 1, CorrelationID: 9, ClientID: &id}, []byte{7}, nil},
		{"flexible with a tag", []byte{0, 18, 0, 3, 0, 0, 0, 9, 0, 6, 'c', 'l', 'i', 'e', 'n', 't', 1, 4, 2, 0, 0, 7},
			Header{Key: 18, Version: 3, CorrelationID: 9, ClientID: &id, Flexible: true}, []byte{7}, nil},
		{"null client id", []byte{0, 17, 0, 1, 0, 0, 0, 9, 255, 255}, Header{Key: 17, Version: 1, CorrelationID: 9}, []byte{}, nil},
		{"ApiVersions above our versions", []byte{0, 18, 0, 99, 0, 0, 0, 9, 255, 255, 0},
			Header{Key: 18, Version: 99, CorrelationID: 9, Flexible: true}, []byte{}, nil},
		{"short", []byte{0, 18, 0, 3, 0, 0, 0}, Header{}, nil, ErrMalformed},
		{"client id too long", []byte{0, 3, 0, 1, 0, 0, 0, 9, 0, 6, 'c'}, Header{Key: 3, Version: 1, CorrelationID: 9}, nil, ErrMalformed},
		{"tags without end", []byte{0, 18, 0, 3, 0, 0, 0, 9, 255, 255, 0x80, 0x80, 0x80, 0x80, 1},
			Header{Key: 18, Version: 3, CorrelationID: 9, Flexible: true}, nil, ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, body, err := ParseHeader(tt.in)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			if err == nil && !bytes.Equal(body, tt.body) {
				t.Errorf("body: got %x, want %x", body, tt.body)
			}
			if err != nil {
				h.ClientID = nil
			}
			if diff := cmp.Diff(tt.want, h); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

// A4: the header of an ApiVersions response has no tags, that of other flexible responses has.
func TestEncodeResponseHeader(t *testing.T) {
	versions := kmsg.NewPtrApiVersionsResponse()
	versions.Version = 3
	metadata := kmsg.NewPtrMetadataResponse()
	metadata.Version = 9
	classic := kmsg.NewPtrMetadataResponse()
	classic.Version = 8
	tests := []struct {
		name   string
		resp   kmsg.Response
		header []byte
	}{
		{"ApiVersions v3", versions, []byte{0, 0, 0, 5}},
		{"flexible", metadata, []byte{0, 0, 0, 5, 0}},
		{"classic", classic, []byte{0, 0, 0, 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := EncodeResponse(5, tt.resp)
			want := append(tt.header, tt.resp.AppendTo(nil)...)
			want = append(binary.BigEndian.AppendUint32(nil, uint32(len(want))), want...)
			if !bytes.Equal(got, want) {
				t.Errorf("got %x, want %x", got, want)
			}
		})
	}
}

// Decoded bytes alias the frame: records are not copied on their way in.
func TestDecodeAliases(t *testing.T) {
	req := kmsg.NewPtrProduceRequest()
	req.Version = 9
	topic := kmsg.NewProduceRequestTopic()
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = []byte("records")
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	body := req.AppendTo(nil)
	got, err := Decode(int16(KeyProduce), 9, body)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(body, []byte("records"))
	if &got.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records[0] != &body[i] {
		t.Error("records were copied")
	}
}
