package conformance

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/protocol"
)

// header1 is a size, a request header of version 1 with a null client id, and what follows.
func header1(key, version int16, corr int32, rest ...byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(10+len(rest)))
	f = binary.BigEndian.AppendUint16(f, uint16(key))
	f = binary.BigEndian.AppendUint16(f, uint16(version))
	f = binary.BigEndian.AppendUint32(f, uint32(corr))
	return append(append(f, 0xff, 0xff), rest...)
}

// TestA2: what follows pipelined produces on a connection waits until they are answered, and sees them.
func TestA2(t *testing.T) {
	c, n := begin(t)
	c.CreateTopic(n("t"), 1)
	var produces []*kmsg.ProduceRequest
	var due []int32
	for range 5 {
		req := ProduceRequest(9, n("t"), 0, BatchOf("a", "b"))
		produces, due = append(produces, req), append(due, c.Send(req))
	}
	meta, list := MetadataRequest(12, n("t")), ListRequest(n("t"), 0, LatestOffset)
	metaDue, listDue := c.Send(meta), c.Send(list)
	for i, req := range produces {
		p := Answer[*kmsg.ProduceResponse](c, req, due[i]).Topics[0].Partitions[0]
		WantCode(t, "produce", p.ErrorCode, protocol.CodeNone)
		if p.BaseOffset != int64(2*i) {
			t.Errorf("produce %d is at offset %d, want %d", i, p.BaseOffset, 2*i)
		}
	}
	Answer[*kmsg.MetadataResponse](c, meta, metaDue)
	if got := Answer[*kmsg.ListOffsetsResponse](c, list, listDue).Topics[0].Partitions[0].Offset; got != 10 {
		t.Errorf("a pipelined ListOffsets sees %d, want the 10 records before it", got)
	}
}

// TestA1A3A7: what closes a connection without a word.
func TestA1A3A7(t *testing.T) {
	_, n := begin(t)
	for _, tc := range []struct {
		name  string
		frame []byte
	}{
		{"A1 negative size", []byte{0xff, 0xff, 0xff, 0xff, 0, 3, 0, 1}},
		{"A1 size over socket.request.max.bytes", []byte{0x06, 0x40, 0x00, 0x01, 0, 0, 0, 9}},
		{"A3 unknown key", header1(999, 0, 1)},
		{"A3 negative key", header1(-1, 0, 1)},
		{"A3 produce before version 3", header1(0, 2, 1, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0)},
		{"A3 L4 list offsets version 0", header1(2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)},
		{"A3 metadata version -1", header1(3, -1, 1, 0, 0, 0, 0)},
		{"A3 metadata version 99", header1(3, 99, 1, 0, 0, 0, 0)},
		{"A7 body cut short", header1(3, 1, 1, 0, 0, 0, 1, 0, 9, 'a')},
		{"A7 array longer than the body", header1(3, 1, 1, 0x7f, 0, 0, 0)},
		{"A7 header cut short", []byte{0, 0, 0, 4, 0, 3, 0, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Dial(t, target.addr)
			c.SendBytes(tc.frame)
			c.CheckClosed()
		})
	}
	t.Run("A7 bytes after the body are ignored", func(t *testing.T) {
		c := Dial(t, target.addr)
		c.SendBytes(header1(3, 1, 7, 0, 0, 0, 0, 'j', 'u', 'n', 'k'))
		if corr, _, err := c.Receive(); err != nil || corr != 7 {
			t.Errorf("answer %d, %v", corr, err)
		}
	})
	t.Run("A7 array length -2 is null", func(t *testing.T) {
		c := Dial(t, target.addr)
		c.CreateTopic(n("t"), 1)
		c.SendBytes(header1(3, 1, 7, 0xff, 0xff, 0xff, 0xfe))
		_, body, err := c.Receive()
		resp := kmsg.NewPtrMetadataResponse()
		resp.Version = 1
		if err != nil || resp.ReadFrom(body) != nil || len(resp.Topics) == 0 {
			t.Errorf("error %v, %d topics, want all", err, len(resp.Topics))
		}
	})
}

// TestA3Fallback pins the bytes of the answer from which every client downgrades.
func TestA3Fallback(t *testing.T) {
	begin(t)
	for _, tc := range []struct {
		name    string
		version int16
	}{
		{"A3 one too high", 5},
		{"A3 the highest", 1<<15 - 1},
		{"A3 negative", -1},
		{"A3 the lowest", -1 << 15},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Dial(t, target.addr)
			c.SendBytes(header1(18, tc.version, 0x01020304, 0, 0, 0))
			corr, body, err := c.Receive()
			if err != nil || corr != 0x01020304 {
				t.Fatalf("answer %#x, %v", corr, err)
			}
			want := []byte{0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4} // error, one key: 18, 0 to 4
			if diff := cmp.Diff(want, body); diff != "" {
				t.Errorf("A4 body: %s", diff)
			}
			Ask[*kmsg.ApiVersionsResponse](c, kmsg.NewPtrApiVersionsRequest()) // the connection lives on
		})
	}
}

func TestA4A5A6(t *testing.T) {
	c, _ := begin(t)
	versions := func(version int16, software, release string) *kmsg.ApiVersionsRequest {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, software, release
		return req
	}
	t.Run("A4 header version 0", func(t *testing.T) {
		for version := int16(0); version <= 4; version++ {
			c.Send(versions(version, "test", "1.0"))
			_, body, err := c.Receive()
			if err != nil || body[0] != 0 || body[1] != 0 {
				t.Fatalf("v%d: %v, starts with % x", version, err, body[:2])
			}
			if flexible := version >= 3; flexible && body[2] < 10 || !flexible && binary.BigEndian.Uint32(body[2:]) < 10 {
				t.Errorf("v%d: no array of keys after the error: % x", version, body[:8])
			}
		}
	})
	for _, tc := range []struct {
		name, software, release string
		want                    protocol.ErrorCode
	}{
		{"A5 plain", "apache-kafka-java", "4.3.1", protocol.CodeNone},
		{"A5 one letter", "a", "1", protocol.CodeNone},
		{"A5 empty name", "", "1", protocol.CodeInvalidRequest},
		{"A5 empty version", "a", "", protocol.CodeInvalidRequest},
		{"A5 starts with a dash", "-a", "1", protocol.CodeInvalidRequest},
		{"A5 ends with a dot", "a", "1.", protocol.CodeInvalidRequest},
		{"A5 space", "a b", "1", protocol.CodeInvalidRequest},
		{"A5 trailing newline", "a", "1\n", protocol.CodeInvalidRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := Ask[*kmsg.ApiVersionsResponse](c, versions(3, tc.software, tc.release))
			WantCode(t, "v3", resp.ErrorCode, tc.want)
			if tc.want != protocol.CodeNone && len(resp.ApiKeys) != 0 {
				t.Errorf("%d keys beside an error", len(resp.ApiKeys))
			}
		})
	}
	t.Run("A6 ApiVersions any number of times", func(t *testing.T) {
		for range 3 {
			WantCode(t, "again", Ask[*kmsg.ApiVersionsResponse](c, versions(4, "a", "1")).ErrorCode, protocol.CodeNone)
		}
	})
	t.Run("A6 SASL on a plaintext listener", func(t *testing.T) {
		for version := int16(0); version <= 1; version++ {
			req := kmsg.NewPtrSASLHandshakeRequest()
			req.Version, req.Mechanism = version, "PLAIN"
			resp := Ask[*kmsg.SASLHandshakeResponse](c, req)
			WantCode(t, "handshake", resp.ErrorCode, protocol.CodeIllegalSaslState)
			if len(resp.SupportedMechanisms) != 0 {
				t.Errorf("mechanisms %v", resp.SupportedMechanisms)
			}
		}
		for version := int16(0); version <= 2; version++ {
			req := kmsg.NewPtrSASLAuthenticateRequest()
			req.Version, req.SASLAuthBytes = version, []byte("\x00u\x00p")
			resp := Ask[*kmsg.SASLAuthenticateResponse](c, req)
			WantCode(t, "authenticate", resp.ErrorCode, protocol.CodeIllegalSaslState)
			want := "SaslAuthenticate request received after successful authentication"
			if resp.ErrorMessage == nil || *resp.ErrorMessage != want {
				t.Errorf("message %v", resp.ErrorMessage)
			}
		}
		WantCode(t, "the connection lives on", Ask[*kmsg.ApiVersionsResponse](c, versions(4, "a", "1")).ErrorCode, protocol.CodeNone)
	})
	t.Run("1.1 keys are in order", func(t *testing.T) {
		keys := Ask[*kmsg.ApiVersionsResponse](c, versions(4, "a", "1")).ApiKeys
		if !slices.IsSortedFunc(keys, func(a, b kmsg.ApiVersionsResponseApiKey) int { return int(a.ApiKey - b.ApiKey) }) {
			t.Error("keys are not in order")
		}
		if keys[0].ApiKey != 0 || keys[0].MinVersion != 0 {
			t.Errorf("Produce from version %d: librdkafka compresses only when 0 is in the range", keys[0].MinVersion)
		}
	})
}
